"""The last bytes of what came."""


class Tail:
    """At most so many bytes; twice as many are held for a while, however small the chunks are."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept = bytearray()
        self.is_cut = False  # something was dropped

    def add(self, chunk: memoryview) -> None:
        """Add a chunk, and drop from the front what is too much."""
        self.is_cut = self.is_cut or len(self._kept) + len(chunk) > self._most
        self._kept += chunk[-self._most :]
        if len(self._kept) >= 2 * self._most:
            del self._kept[: -self._most]

    def bytes(self) -> bytes:
        """Return them."""
        return bytes(self._kept[-self._most :])
