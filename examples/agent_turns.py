"""Agent turns over real HTTP, supervised: a model that hangs, refuses, is overloaded, and then answers.

What one sees, in about ten seconds: the first attempt of `agent:main:reports` is stopped at its timeout; its client is
closed and its transcript's lock file is gone before the backoff begins; the next attempts meet 429 with a Retry-After
(which is waited out) and 503; the fourth succeeds. Meanwhile `agent:main:mail` is served as if nothing had happened.
Then another turn of `agent:main:reports` starts at once: that session is free. Then the run's report
(`--json`: as JSON), and what was proved along the way, from the disk and from the model's side. Exit status 1 if one
of these does not hold.
"""

import asyncio
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import aiofiles
import httpx
from stand_in_model import Answers, Hangs, Refuses, Script, StandInModel
from terminal import Claim, show, what_holds

from supervisor import Attempt, RunReport, Supervisor
from supervisor.events import AttemptEnded
from supervisor.log import AnyEvent, line, seconds

SETTINGS = Path(__file__).parent.parent / "settings.toml"
REPORTS, MAIL = "agent:main:reports", "agent:main:mail"
# The repository's policy for cron, with times that a person at a terminal has the patience for.
HURRIED = {
    "extends": "cron",
    "attempt": {"timeout": "3s", "grace": "1s"},
    "backoff": {"strategy": "exponential", "base": "500ms"},
}
RETRY_AFTER_S = 2
SCRIPT: Script = {
    REPORTS: [Hangs(), Refuses(429, RETRY_AFTER_S), Refuses(503), Answers("Three reports are due.", after_s=0.2)],
    MAIL: [Answers("No new mail.", after_s=0.5)],
}


async def turn(question: str, model: StandInModel, transcript: Path, attempt: Attempt) -> str:
    """One agent turn: under the transcript's lock, ask the model, and append question and answer to the transcript."""
    await attempt.lock(transcript)
    http = await attempt.enter(httpx.AsyncClient(base_url=model.url, timeout=None))  # noqa: S113 - the attempt has one
    request = {"model": "stand-in", "user": attempt.session, "messages": [{"role": "user", "content": question}]}
    headers = {"Idempotency-Key": attempt.idempotency_key}
    response = await http.post("/v1/chat/completions", json=request, headers=headers)
    response.raise_for_status()
    answer = response.json()["choices"][0]["message"]
    async with aiofiles.open(transcript, "a") as file:
        await file.write("".join(json.dumps(message) + "\n" for message in (request["messages"][0], answer)))
    return str(answer["content"])


class Watcher:
    """Prints each event, and looks whether the lock file is there whenever an attempt has ended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.left_behind: list[str] = []

    def __call__(self, event: AnyEvent) -> None:
        show(line(event).replace(f"{self._folder}/", ""))
        if isinstance(event, AttemptEnded):
            lock = lock_of(self._folder, event.session)
            here = lock.exists()
            show(f"             on disk: {lock.name} {'IS STILL THERE' if here else 'is gone'}")
            if here:
                self.left_behind.append(f"{lock.name} after attempt {event.attempt.number}")


async def main(folder: Path) -> int:
    watcher = Watcher(folder)
    async with (
        StandInModel(SCRIPT) as model,
        Supervisor.from_settings(SETTINGS, policies={"hurried": HURRIED}) as supervisor,
    ):
        supervisor.on(watcher)

        async def ask(session: str, question: str) -> RunReport:
            work = partial(turn, question, model, transcript_of(folder, session))
            return await supervisor.run(session, work, policy="hurried")

        first, mail = await asyncio.gather(ask(REPORTS, "Which reports are due?"), ask(MAIL, "Is there new mail?"))
        again = await ask(REPORTS, "And tomorrow?")
    print_report(first)
    return what_holds(claims(folder, model, watcher, [first, mail, again]))


def print_report(report: RunReport) -> None:
    if "--json" in sys.argv[1:]:
        print(json.dumps(report.as_json(), indent=2))
        return
    print(f"\nRun {report.run_id} of {report.session}, policy {report.policy} ({report.policy_hash}): {report.status}")
    print(f"in {seconds(report.duration_s)}, answer: {report.value!r}\n")
    print("  attempt  took      outcome       released                next")
    for attempt in report.attempts:
        shape = attempt.as_json()
        outcome = attempt.outcome if attempt.failure is None else attempt.failure.kind
        released = f"{shape['released']['receipt']} in {seconds(attempt.released.seconds)}"
        verdict, delay_s = shape["verdict"]["action"], shape["verdict"]["delay_s"]
        then = verdict if delay_s is None else f"{verdict} in {seconds(delay_s)}"
        print(f"  {attempt.number:<7}  {seconds(attempt.duration_s):<8}  {outcome:<12}  {released:<22}  {then}")


def claims(folder: Path, model: StandInModel, watcher: Watcher, reports: list[RunReport]) -> list[Claim]:
    """Return what must be true now, each with whether it is."""
    first, mail, again = reports
    calls = model.of(REPORTS)
    hung, refused, after_refusal = calls[:3]
    assert hung.left_at is not None
    assert refused.left_at is not None
    kinds = [attempt.failure.kind.value if attempt.failure else "succeeded" for attempt in first.attempts]
    waited_s = after_refusal.came_at - refused.left_at
    transcript = transcript_of(folder, REPORTS).read_text().splitlines()
    return [
        (kinds == ["timeout", "rate_limited", "overloaded", "succeeded"], f"the attempts: {', '.join(kinds)}"),
        (not watcher.left_behind, f"no lock file outlived its attempt {watcher.left_behind or ''}"),
        (
            not list(folder.glob("*.lock")),
            f"no lock file is left: {', '.join(sorted(p.name for p in folder.iterdir()))}",
        ),
        (hung.left_at < refused.came_at, "the request that hung was closed before the next one was made"),
        (model.most_at_once(REPORTS) == 1, "the model never saw two requests of the session at once"),
        (waited_s >= RETRY_AFTER_S, f"Retry-After {RETRY_AFTER_S} s: the next request came after {waited_s:.2f} s"),
        (mail.duration_s < first.attempts[0].duration_s, f"{MAIL} was served meanwhile, in {mail.duration_s:.2f} s"),
        (len(again.attempts) == 1, f"the session's next turn found it free and answered: {again.value}"),
        (len(transcript) == 4, f"the transcript has each turn once: {len(transcript)} lines"),
    ]


def transcript_of(folder: Path, session: str) -> Path:
    return folder / f"{session.rpartition(':')[2]}.jsonl"


def lock_of(folder: Path, session: str) -> Path:
    return folder / f"{transcript_of(folder, session).name}.lock"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="turnkeeper-") as name:
        sys.exit(asyncio.run(main(Path(name).resolve())))
