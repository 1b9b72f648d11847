"""Who holds the write lock of a database? For the message of those who have waited for it in vain."""

import os
from pathlib import Path
from typing import Final

_WRITE_LOCK: Final = 120
"""The byte of the shared-memory file that a writer in WAL mode locks: https://sqlite.org/walformat.html#wal_locks"""


def who_is_writing(database: Path) -> str:
    """Return, for a person, which process has the write lock; by /proc/locks, without opening any of the files."""
    try:
        facts = os.stat(f"{database}-shm")
        with open("/proc/locks", encoding="ascii") as locks:
            lines = locks.read().splitlines()
    except OSError:
        return "another process"
    file = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}:{facts.st_ino}"
    for line in lines:
        fields = line.split()
        if len(fields) == 8 and fields[1] == "POSIX" and fields[3] == "WRITE" and fields[5] == file:
            start, end = fields[6:8]
            if int(start) <= _WRITE_LOCK and (end == "EOF" or int(end) >= _WRITE_LOCK):
                return f"process {fields[4]}" if fields[4].isdecimal() and fields[4] != "0" else "another process"
    return "another process"
