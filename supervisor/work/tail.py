"""The last bytes of what came."""


class Tail:
    """At most so many bytes; twice as many are held for a while, however small the chunks are."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept = bytearray()

    def add(self, chunk: memoryview) -> None:
        """Add a chunk, and drop from the front what is too much."""
        self._kept += chunk[-self._most :]
        if len(self._kept) >= 2 * self._most:
            del self._kept[: -self._most]

    def bytes(self) -> bytes:
        """Return them."""
        return bytes(self._kept[-self._most :])
