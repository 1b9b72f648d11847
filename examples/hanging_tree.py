"""A command that fails, hangs with a whole tree of processes, and then succeeds: under `turnkeeper run`, in 10 seconds.

What one sees: attempt 1 fails; attempt 2 is stopped at its timeout, and its tree with it: a tool, a process that
ignores SIGTERM, and a daemon that has left its parent and its session. The lock file goes with the last of them. Only
then comes the backoff, and attempt 3 succeeds. Then the report, and what was proved, from the disk and from /proc. The
same follows from the library. Exit status 1 if something of that does not hold.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from terminal import Claim, show, what_holds

from supervisor import Command, RunReport, Supervisor
from supervisor.log import line

AGENT = Path(__file__).with_name("stand_in_agent.py")
SESSION = "agent:main:reports"
# The built-in defaults, with times that a person at a terminal has the patience for.
HURRIED = {"ATTEMPT__TIMEOUT": "2s", "ATTEMPT__GRACE": "1s", "BACKOFF__BASE": "500ms", "BACKOFF__STRATEGY": "constant"}
PATIENCE = {f"TURNKEEPER_POLICIES__DEFAULT__{key}": value for key, value in HURRIED.items()}


def from_the_shell(folder: Path) -> dict[str, Any]:
    """Run the agent as a person, or a crontab, would; return the report."""
    agent = [sys.executable, str(AGENT), str(folder)]
    options = ["--session", SESSION, "--lock", str(folder / "reports.jsonl"), "--report", str(folder / "report.json")]
    print(
        f"$ turnkeeper run --session {SESSION} --lock reports.jsonl --report report.json -- {AGENT.name}\n", flush=True
    )
    command = [sys.executable, "-m", "supervisor.cli.main", "run", *options, "--", *agent]
    ended = subprocess.run(command, env=os.environ | PATIENCE, stderr=subprocess.STDOUT, check=False)
    print(f"\nexit status {ended.returncode}")
    report: dict[str, Any] = json.loads((folder / "report.json").read_bytes())
    return report


async def from_the_library(folder: Path) -> RunReport:
    """Run the same agent as work of a Supervisor."""
    async with Supervisor.from_settings() as supervisor:
        supervisor.on(lambda event: show(line(event)))
        agent = Command([sys.executable, str(AGENT), str(folder)])
        return await supervisor.run(SESSION, agent, lock=folder / "reports.jsonl")


def print_report(report: dict[str, Any]) -> None:
    print(f"\nRun {report['run_id']}, policy {report['policy']} ({report['policy_hash']}): {report['status']}\n")
    print("  attempt  outcome    why                       released            next")
    for attempt in report["attempts"]:
        failure, released, verdict = attempt["failure"], attempt["released"], attempt["verdict"]
        why = "" if failure is None else f"{failure['kind']}: {failure['message']}"
        ended = f"{released['receipt']}, {released['processes_killed']} ended"
        then = verdict["action"] + (f" in {verdict['delay_s']:.1f} s" if verdict["delay_s"] else "")
        print(f"  {attempt['number']:^7}  {attempt['outcome']:<9}  {why[:24]:<24}  {ended:<18}  {then}")


def claims(how: str, folder: Path, report: dict[str, Any]) -> list[Claim]:
    attempts = report["attempts"]
    kinds = [attempt["failure"] and attempt["failure"]["kind"] for attempt in attempts]
    started = [int(pid) for pid in (folder / "started").read_text().split()]
    locked = (folder / "locked").read_text().split()
    return [
        (kinds == ["error", "timeout", None], f"{how}: it failed, hung, and succeeded at the third attempt"),
        (
            attempts[1]["released"]["processes_killed"] >= len(started),
            f"{how}: {attempts[1]['released']['processes_killed']} processes were ended with attempt 2",
        ),
        (not any(map(is_alive, started)), f"{how}: none is left, the daemon and the stubborn one neither"),
        (locked == ["True"] * 3, f"{how}: the lock file was there during each attempt"),
        (not (folder / "reports.jsonl.lock").exists(), f"{how}: and is gone"),
    ]


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status


def main() -> int:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        shell, library = Path(one), Path(two)
        report = from_the_shell(shell)
        print_report(report)
        print("\nThe same, from the library:\n", flush=True)
        os.environ |= PATIENCE
        again = asyncio.run(from_the_library(library)).as_json()
        return what_holds([*claims("shell", shell, report), *claims("library", library, again)])


if __name__ == "__main__":
    sys.exit(main())
