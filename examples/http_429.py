"""A model that answers 429 with a Retry-After, then 503, then 200, asked under a transcript's lock.

What one sees, in about two seconds: the stated wait is kept to the letter though the policy's own backoff is shorter;
each attempt has a client of its own, closed before the next wait; the lock file is held during attempts only.
Exit status 1 if not.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import httpx
from stand_in_model import Answers, Refuses, Script, StandInModel
from terminal import show, what_holds

from supervisor import Attempt, Supervisor
from supervisor.log import line

SETTINGS = Path(__file__).parent.parent / "settings.toml"
SESSION = "agent:main:digest"
BRISK = {"extends": "cron", "attempt": {"timeout": "5s"}, "backoff": {"strategy": "constant", "base": "100ms"}}
RETRY_AFTER_S = 1


async def main() -> int:
    with tempfile.TemporaryDirectory(prefix="turnkeeper-") as folder:
        transcript = Path(folder, "digest.jsonl")
        lock = Path(folder, "digest.jsonl.lock")

        def is_locked() -> bool:
            return lock.exists()

        clients: list[httpx.AsyncClient] = []
        seen: list[
            tuple[bool, bool]
        ] = []  # at each attempt's start: is the lock there, are the earlier clients closed?

        async def turn(attempt: Attempt) -> str:
            seen.append((is_locked(), all(client.is_closed for client in clients)))
            http = await attempt.enter(httpx.AsyncClient(base_url=model.url, timeout=attempt.remaining()))
            clients.append(http)
            response = await http.post("/v1/chat/completions", json={"model": "stand-in", "user": attempt.session})
            response.raise_for_status()  # 429 and 503 say by themselves what they are, and Retry-After is read
            return str(response.json()["choices"][0]["message"]["content"])

        script: Script = {SESSION: [Refuses(429, RETRY_AFTER_S), Refuses(503), Answers("Here is the digest.")]}
        async with (
            StandInModel(script) as model,
            Supervisor.from_settings(SETTINGS, policies={"brisk": BRISK}) as supervisor,
        ):
            supervisor.on(lambda event: show(line(event)))
            report = await supervisor.run(SESSION, turn, policy="brisk", lock=transcript)

        kinds = [attempt.failure.kind.value for attempt in report.attempts if attempt.failure]
        first, second, third = model.of(SESSION)
        return what_holds(
            [
                (
                    kinds == ["rate_limited", "overloaded"],
                    f"failed as {', '.join(kinds)}, then answered: {report.value}",
                ),
                (second.came_at - first.came_at >= RETRY_AFTER_S, f"Retry-After: {RETRY_AFTER_S} was waited out"),
                (third.came_at - second.came_at < RETRY_AFTER_S, "after the 503 the policy's own backoff was enough"),
                (seen == [(True, True)] * 3, "each attempt had the lock, and found the clients before it closed"),
                (not is_locked(), f"{lock.name} is gone"),
            ]
        )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
