"""A program that runs `turnkeeper` many times at once, for the chaos tests: python at_once.py '[RUNS, [ARGUMENT...]]'

Each is a process of its own, forked from one that has loaded the program: they come within milliseconds, and not as
their imports are done. `{}` in an argument is the number of the run. Prints their exit statuses.
"""

import json
import os
import sys

from supervisor.cli.main import main
from supervisor.recovery import lost_runs  # noqa: F401 - what the one in memory needs not is loaded here
from supervisor.store.sqlite import remains, store  # noqa: F401


def load() -> None:
    """Load all that a run needs, by a run."""
    sys.argv = ["turnkeeper", "run", "--session", "loads", "--state", "memory", "--quiet", "--", "true"]
    assert main() == 0


def fork(number: int, arguments: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    sys.argv = ["turnkeeper", *(argument.replace("{}", str(number)) for argument in arguments)]
    status = 1
    try:
        status = main()
    finally:
        os._exit(status)


if __name__ == "__main__":
    runs, arguments = json.loads(sys.argv[1])
    load()
    pids = [fork(number, arguments) for number in range(runs)]
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))
