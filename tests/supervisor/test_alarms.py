"""One timer of the loop serves all timeouts of one length."""

import asyncio

from supervisor.alarms import Alarms
from tests.supervisor.rules import now


async def test_each_key_rings_at_its_own_time() -> None:
    rung: list[tuple[str, float]] = []
    alarms: Alarms[str] = Alarms(lambda key: rung.append((key, now())))
    began = now()
    alarms.set(10.0, "first", now())
    await asyncio.sleep(3.0)
    alarms.set(10.0, "second", now())
    alarms.set(2.0, "short", now())
    await asyncio.sleep(100.0)
    assert rung == [("short", began + 5.0), ("first", began + 10.0), ("second", began + 13.0)]


async def test_a_cleared_key_does_not_ring_and_holds_up_nobody() -> None:
    rung: list[tuple[str, float]] = []
    alarms: Alarms[str] = Alarms(lambda key: rung.append((key, now())))
    began = now()
    alarms.set(10.0, "cleared", now())
    await asyncio.sleep(1.0)
    alarms.set(10.0, "kept", now())
    alarms.clear(10.0, "cleared")
    alarms.clear(10.0, "never set")
    alarms.clear(99.0, "never set")
    await asyncio.sleep(100.0)
    assert rung == [("kept", began + 11.0)]


async def test_keys_that_are_due_together_ring_together() -> None:
    rung: list[str] = []
    alarms: Alarms[str] = Alarms(rung.append)
    for key in "abc":
        alarms.set(5.0, key, now())
    await asyncio.sleep(5.0)
    assert rung == ["a", "b", "c"]


async def test_who_rings_may_set_and_clear_others() -> None:
    rung: list[tuple[str, float]] = []

    def ring(key: str) -> None:
        rung.append((key, now() - began))
        alarms.clear(5.0, "b")
        if len(rung) < 3:
            alarms.set(5.0, key, now())

    alarms: Alarms[str] = Alarms(ring)
    began = now()
    alarms.set(5.0, "a", now())
    alarms.set(5.0, "b", now())
    await asyncio.sleep(100.0)
    assert rung == [("a", 5.0), ("a", 10.0), ("a", 15.0)]


async def test_a_key_that_is_set_anew_rings_later_and_holds_up_nobody() -> None:
    rung: list[tuple[str, float]] = []
    alarms: Alarms[str] = Alarms(lambda key: rung.append((key, now() - began)))
    began = now()
    alarms.set(10.0, "again", now())
    await asyncio.sleep(1.0)
    alarms.set(10.0, "other", now())
    await asyncio.sleep(4.0)
    alarms.set(10.0, "again", now())
    await asyncio.sleep(100.0)
    assert rung == [("other", 11.0), ("again", 15.0)]


async def test_nothing_rings_after_closing() -> None:
    rung: list[str] = []
    alarms: Alarms[str] = Alarms(rung.append)
    alarms.set(5.0, "a", now())
    alarms.close()
    await asyncio.sleep(100.0)
    assert rung == []


async def test_a_length_that_nobody_waits_for_any_more_is_forgotten() -> None:
    """Timeouts of children are what is left of their parents': a new length each time."""
    rung: list[str] = []
    alarms: Alarms[str] = Alarms(rung.append)
    for n in range(100):
        alarms.set(1.0 + n / 100, f"rings {n}", asyncio.get_running_loop().time())
        alarms.set(1.0 + n / 100, f"cleared {n}", asyncio.get_running_loop().time())
        alarms.clear(1.0 + n / 100, f"cleared {n}")
    await asyncio.sleep(3.0)
    assert len(rung) == 100
    assert not alarms._lengths
    alarms.set(1.0, "again", asyncio.get_running_loop().time())
    await asyncio.sleep(2.0)
    assert rung[-1] == "again"
