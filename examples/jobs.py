"""Three jobs under `turnkeeper serve` for eight seconds: one is well, one hangs, one fails. Then their ledgers.

What one sees: each tick of each job, a second apart, in exactly one of the ledger's words. The one that is well is
started each time, whatever the others do. Ticks of the one that hangs are skipped while its predecessor runs, which is
stopped at its timeout. The one that fails is left alone by its session's breaker. SIGTERM ends it all: what runs is
finished or stopped, and proved gone. Exit status 1 if something of that does not hold.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from terminal import what_holds

SETTINGS = Path(__file__).with_name("jobs.toml")
TURNKEEPER = (sys.executable, "-m", "supervisor.cli.main")
SERVED_S = 8.0


def told(state: str, *command: str) -> Any:
    """Return what a command below `turnkeeper jobs` prints as JSON."""
    where = ("--settings", str(SETTINGS), "--state", state)
    return json.loads(subprocess.check_output([*TURNKEEPER, "jobs", *command, *where, "--json"]))


def serve(state: str, mark: str) -> int:
    """Run the jobs for a while, as a service manager would; return the exit status."""
    print(f"$ turnkeeper serve --settings {SETTINGS.name} --quiet\n", flush=True)
    command = [*TURNKEEPER, "serve", "--settings", str(SETTINGS), "--state", state, "--quiet"]
    environ = os.environ | {"EXAMPLE": mark}
    process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)  # which tells of each failure
    time.sleep(SERVED_S)
    process.send_signal(signal.SIGTERM)
    return process.wait(30.0)


def alive(mark: str) -> list[str]:
    """Return the processes that were started there and live."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"EXAMPLE={mark}\0".encode() in (entry / "environ").read_bytes():
                found.append(entry.name)
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        state, mark = str(Path(folder) / "state.db"), str(os.getpid())
        status = serve(state, mark)
        left = alive(mark)
        ledgers = {name: told(state, "ticks", name) for name in ("well", "hangs", "fails")}
        table = [*TURNKEEPER, "jobs", "--settings", str(SETTINGS), "--state", state]
        print("$ turnkeeper jobs\n", flush=True)
        subprocess.run(table, check=True, stderr=subprocess.DEVNULL)  # which says that nobody serves them any more
        print("\n$ turnkeeper jobs ticks hangs\n", flush=True)
        subprocess.run([*table[:4], "ticks", "hangs", *table[4:]], check=True)
    outcomes = {name: [(tick["outcome"], tick["reason"]) for tick in ticks] for name, ticks in ledgers.items()}
    moments = [tick["tick_at"] for tick in ledgers["well"]]
    seconds = [int(later[17:19]) - int(earlier[17:19]) for later, earlier in pairwise(moments)]
    started = [tick["status"] for tick in ledgers["hangs"] if tick["outcome"] == "started"]
    failed = [tick["status"] for tick in ledgers["fails"] if tick["outcome"] == "started"]
    return what_holds(
        [
            (status == 0, "serve ended with 0 after SIGTERM"),
            (not left, "nothing that it had started is left"),
            (set(outcomes["well"]) == {("started", None)}, "the one that is well was started at each of its ticks"),
            (len(moments) >= 5 and {*seconds} <= {1, -59}, f"no tick is missing, none double: {len(moments)} of them"),
            (("skipped", "overlap") in outcomes["hangs"], "while one hung, the next of its ticks were skipped"),
            (0 < len(started) < len(moments), f"it was stopped at its timeout, {len(started)} times"),
            (failed == ["failed"] * 2, "the one that fails was left alone after two failures in a row"),
            (("skipped", "breaker_open") in outcomes["fails"], "its breaker says so in its ledger"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
