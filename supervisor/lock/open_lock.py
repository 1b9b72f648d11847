"""A lock file while it is open: what it says, who has it, and its removal on proof."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from policies.policy import Pids
from supervisor.lock import contents, holder
from supervisor.lock.contents import Contents
from supervisor.lock.holder import Holder
from supervisor.lock.lock_file import Place, open_to_read


@dataclass(frozen=True, slots=True)
class OpenLock:
    """What was read and judged; `descriptor` is open as long as the block of `open_lock` runs."""

    place: Place
    descriptor: int
    content: bytes
    parsed: Contents | str
    holder: Holder

    def since_unix(self) -> float:
        """Return since when it is held: by its own word, else when it was last written."""
        if isinstance(self.parsed, Contents):
            try:
                return datetime.fromisoformat(self.parsed.created_at).timestamp()
            except (ValueError, OverflowError):
                pass
        return os.fstat(self.descriptor).st_mtime

    def reclaim(self) -> bool:
        """Remove it, its holder being proved dead; False: it changed hands, look again. OSError if it may not be.

        Nothing may be awaited between the judgement and this: look, flock, compare and removal are one step of the
        loop, some microseconds.
        """
        return holder.reclaim(self.place, self.descriptor, self.content, self.holder)


@asynccontextmanager
async def open_lock(place: Place, pids: Pids) -> AsyncIterator[OpenLock]:
    """Open, read and judge the file in the lock's place. Raises OSError, and Failure for what is no plain file."""
    async with open_to_read(place) as file:
        content: bytes = await file.read(contents.MOST_BYTES + 1)
        parsed = contents.parse(content)
        held_by = await holder.judge(place, file.fileno(), parsed, pids)
        yield OpenLock(place, file.fileno(), content, parsed, held_by)
