"""Who holds a lock file, and does the holder live? Only proof is taken: what cannot be judged is respected.

Ours, the first that answers: held under flock: alive. Of another host that is not this kernel: unknown. Another boot:
dead. A process's and free: dead. A warden's and free: dead if it wrote `gone`, or if its cgroup is gone; else unknown:
its tree may live on.
A foreign one is judged by pid and start time; a file that names nobody not at all, however old it is.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto

from policies.policy import Pids
from supervisor.lock import lock_file
from supervisor.lock.contents import Contents, OurPart, OwnedBy
from supervisor.lock.lock_file import Place
from supervisor.lock.proofs import proof_of_death
from supervisor.owner import foreign_alive, this_process


class Reclaim(Enum):
    """What keeps reclaimers of a file apart: the flock of the file itself, or (its writer took none) its folder's."""

    UNDER_FILE = auto()
    UNDER_FOLDER = auto()


@dataclass(frozen=True, slots=True)
class Holder:
    """Whoever holds a lock.

    Attributes:
        name: for a person.
        pid: as the holder sees itself; None where the file names none.
        alive: None where it cannot be judged.
        advice: what to do about it; for a dead one, if its file may not be removed from here.
        proof: of a dead one: what says so.
        reclaim: how the file is removed, once the holder is proved dead.
    """

    name: str
    pid: int | None
    alive: bool | None
    advice: str
    proof: str = ""
    reclaim: Reclaim = Reclaim.UNDER_FILE


async def judge(place: Place, descriptor: int, parsed: Contents | str, pids: Pids) -> Holder:
    """Return who holds the open lock file. Of a foreign one all of /proc may be read, off the loop."""
    if isinstance(parsed, str):
        return Holder(
            f"somebody of whom the file does not tell ({parsed})",
            pid=None,
            alive=None,
            advice=f"if nothing uses the session, remove it: rm {place.path}",
        )
    if parsed.ours is not None:
        return _ours(place, parsed, parsed.ours, is_flocked=lock_file.is_flocked(descriptor))
    alive = await asyncio.to_thread(foreign_alive, parsed.pid, parsed.starttime, pids)
    return _foreign(place, parsed, pids, alive=alive)


def _ours(place: Place, contents: Contents, ours: OurPart, *, is_flocked: bool) -> Holder:
    me = this_process()
    same_boot = ours.boot_id == me.boot_id != ""
    name = f"Turnkeeper's {ours.owned_by} {contents.pid}"
    if is_flocked:
        if same_boot and (contents.pid, contents.starttime) == (me.pid, me.starttime):
            return Holder(f"{name} (this one)", me.pid, alive=True, advice="another run of this process has it; wait")
        return Holder(name, contents.pid, alive=True, advice="wait, or stop that process")
    # Another machine's flock may not reach us. A container of this machine has another name, but the same kernel.
    if ours.host != me.host and not same_boot:
        advice = f"if that host no longer runs it, remove the file: rm {place.path}"
        return Holder(f"{name} on host {ours.host}", contents.pid, alive=None, advice=advice)
    proof = proof_of_death(ours)
    if ours.owned_by is OwnedBy.WARDEN and not ours.gone and not proof:
        advice = f"what it started may still run: look for it, end it, then remove the file: rm {place.path}"
        return Holder(f"{name}, which was killed", contents.pid, alive=None, advice=advice)
    if not proof:
        is_wardens = ours.owned_by is OwnedBy.WARDEN
        proof = "the warden wrote that its tree is gone" if is_wardens else "the kernel let go of its flock"
    return Holder(name, contents.pid, alive=False, advice=_advice_to_remove(place), proof=proof)


def _foreign(place: Place, contents: Contents, pids: Pids, *, alive: bool | None) -> Holder:
    proof = ""
    match alive:
        case True:
            advice = "wait, or stop that process"
        case False:
            advice = _advice_to_remove(place)
            proof = f"no process {contents.pid} that started at {contents.starttime} is left"
        case None:
            advice = f"if nothing uses the session, remove it: rm {place.path}"
            if pids is Pids.AUTO:
                advice += '; where its holders live in the pid namespace of this process, set lock.pids = "ours"'
    return Holder(f"process {contents.pid}", contents.pid, alive, advice, proof, Reclaim.UNDER_FOLDER)


def _advice_to_remove(place: Place) -> str:
    return f"remove it: rm {place.path}"


def reclaim(place: Place, descriptor: int, content: bytes, holder: Holder) -> bool:
    """Remove the file of a holder that was proved dead; False: it changed hands, look again. OSError if it may not."""
    under = place.folder if holder.reclaim is Reclaim.UNDER_FOLDER else descriptor
    return lock_file.reclaim(place, descriptor, content, under=under)
