"""Who has been silent for longer than the lease? By the judge's own waking time: after a suspend it may wake first."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.store.sqlite.owners import Owner


class Silence:
    """What one process has heard of the others.

    An owner is silent for too long if it has not renewed for the lease, and this process, awake, has seen it unrenewed
    for a third of that. Time between two looks counts at most as much as a look may be late.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._most_between_s = lease_s / 12
        self._heard: dict[str, tuple[float, float]] = {}  # renewed at, watched for so many seconds since
        self._now = 0.0
        self._looked_at: float | None = None

    def see(self, owners: "Iterable[Owner]", now: float, boottime: float) -> None:
        """Note who has renewed since the last look; `now` is on this process's own clock."""
        passed = 0.0 if self._looked_at is None else min(now - self._looked_at, self._most_between_s)
        self._looked_at, self._now = now, boottime
        heard = {}
        for owner in owners:
            renewed_at, watched_s = self._heard.get(owner.id, (owner.renewed_at, 0.0))
            heard[owner.id] = (
                (renewed_at, watched_s + passed) if renewed_at == owner.renewed_at else (owner.renewed_at, 0.0)
            )
        self._heard = heard

    def is_too_long(self, owner: str) -> bool:
        """Tell whether an owner may be passed by."""
        renewed_at, watched_s = self._heard[owner]
        return self._now - renewed_at > self._lease_s and watched_s >= self._lease_s / 3

    def forget(self, owner: str) -> None:
        self._heard.pop(owner, None)
