"""What `import supervisor` costs in a fresh interpreter, and that it pulls in nothing it does not need.

python tests/benchmarks/bench_import.py [--smoke] [--json]

Exits with 1 where a library is imported that is meant to wait until it is used.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.measuring import options, row, show

LATER: Final = (
    "aiofiles",
    "psutil",
    "pydantic",
    "pydantic_settings",
    "rich",
    "sqlite3",
    "structlog",
    "tenacity",
    "click",
    "zoneinfo",
)
ASK: Final = """
import json, sys, time
before = time.perf_counter()
import supervisor
taken = time.perf_counter() - before
print(json.dumps([taken * 1e3, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def ask() -> Any:
    top = Path(__file__).parents[2]
    answer = subprocess.run(
        [sys.executable, "-c", ASK], check=True, capture_output=True, text=True, cwd=top, timeout=60
    )
    return json.loads(answer.stdout)


def main() -> None:
    asked = options(__doc__)
    ask()  # compiles what is not compiled yet
    answers = [ask() for _ in range(3 if asked.smoke else 15)]
    milliseconds = statistics.median(taken for taken, _ in answers)
    too_early = sorted(set(LATER) & set(answers[0][1]))
    notes = ["imported though not used: " + ", ".join(too_early)] if too_early else []
    show([row("import supervisor", milliseconds, "ms", least=150.0)], as_json=asked.json, notes=notes)
    sys.exit(1 if too_early else 0)


if __name__ == "__main__":
    main()
