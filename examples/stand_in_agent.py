"""A stand-in for an agent's command: it fails, then hangs with a whole tree of processes, then answers.

What it does is told by TURNKEEPER_ATTEMPT, which a supervised command finds in its environment. FOLDER, its argument,
is where it notes what it has started, and whether its session's lock file was there. Run it under `turnkeeper run`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
STUBBORN = [
    *SLEEP[:3],
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


def main(folder: Path) -> int:
    attempt = int(os.environ.get("TURNKEEPER_ATTEMPT", "1"))
    lock = folder / "reports.jsonl.lock"
    with (folder / "locked").open("a") as file:
        file.write(f"{lock.exists()}\n")
    match attempt:
        case 1:
            print("agent: the model answered 503", file=sys.stderr, flush=True)
            return 1
        case 2:
            print("agent: thinking, with a tool, a stubborn one, and a daemon", flush=True)
            hang(folder)
        case _:
            print("agent: three reports are due", flush=True)
    return 0


def hang(folder: Path) -> None:
    """Start a tree as agents do, and never come back."""
    tool = subprocess.Popen(SLEEP)
    stubborn = subprocess.Popen(STUBBORN, stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    stubborn.stdout.readline()  # from here on it ignores SIGTERM
    started = [os.getpid(), tool.pid, stubborn.pid, daemon(folder)]
    (folder / "started").write_text(" ".join(map(str, started)))
    signal.pause()


def daemon(folder: Path) -> int:
    """Fork twice, in a session of its own: no process group and no parent leads to it any more."""
    if os.fork() == 0:
        os.setsid()
        if (pid := os.fork()) == 0:
            os.execv(SLEEP[0], SLEEP)
        (folder / "daemon").write_text(str(pid))
        os._exit(0)
    os.wait()
    while not (noted := folder / "daemon").exists():
        time.sleep(0.01)
    return int(noted.read_text())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
