"""A flaky command under `turnkeeper run`: it is asked again, with the same input; a wrong one is not.

What one sees, in three seconds: a command reads its question from stdin, exits twice with status 75 (which a rule of
the settings calls overloaded), and answers the third time, having read the same question each time. One whose status
says that it was used wrongly (2) runs once, and so does one that does not exist. Exit status 1 if that does not hold.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from terminal import what_holds

SETTINGS = """
[policies.flaky]
attempt.timeout = "30s"
backoff = { strategy = "exponential", base = "300ms", cap = "10s" }

[[failures]]
match = { exit_code = 75 }
kind = "overloaded"
"""
FLAKY = """
read -r question
echo "$question" >> asked
if [ "$TURNKEEPER_ATTEMPT" -lt 3 ]; then echo "try later" >&2; exit 75; fi
echo "The answer to $question"
"""


def turnkeeper(folder: Path, *command: str) -> tuple[int, str, dict[str, Any]]:
    """Put `turnkeeper run` in front of a command; return its exit status, its stdout, and the report."""
    print(
        f"\n$ echo 'what is due?' | turnkeeper run --session agent:main:flaky -p flaky -- {command[0]} ...", flush=True
    )
    options = [
        "--session",
        "agent:main:flaky",
        "--policy",
        "flaky",
        "--settings",
        "turnkeeper.toml",
        "--report",
        "r.json",
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "supervisor.cli.main", "run", *options, "--", *command],
        cwd=folder,
        input="what is due?\n",
        stdout=subprocess.PIPE,
        stderr=sys.stdout,
        text=True,
        check=False,
    )
    print(f"{ended.stdout.strip() or '(no output)'}\nexit status {ended.returncode}")
    return ended.returncode, ended.stdout, json.loads((folder / "r.json").read_bytes())


def main(folder: Path) -> int:
    (folder / "turnkeeper.toml").write_text(SETTINGS)
    status, said, report = turnkeeper(folder, "sh", "-c", FLAKY)
    wrong, _, wrong_report = turnkeeper(folder, "sh", "-c", "exit 2")
    missing, _, missing_report = turnkeeper(folder, "no-such-agent")
    kinds = [attempt["failure"] and attempt["failure"]["kind"] for attempt in report["attempts"]]
    return what_holds(
        [
            (kinds == ["overloaded", "overloaded", None], "it was asked again after each of two failures"),
            ((status, said) == (0, "The answer to what is due?\n"), "its answer and its status came through"),
            ((folder / "asked").read_text() == "what is due?\n" * 3, "each attempt read the same question"),
            ((wrong, len(wrong_report["attempts"])) == (2, 1), "a command that is used wrongly runs once"),
            ((missing, len(missing_report["attempts"])) == (127, 1), "one that does not exist is not asked for again"),
        ]
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made)))
