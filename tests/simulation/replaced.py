"""Parts of the engine replaced while a simulation runs: how a bug is planted."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from supervisor.store.memory import MemoryStore
from tests.simulation.simulate import Plant


class Replaced(Plant):
    """Each part is (owner, name, what stands there instead of it)."""

    def __init__(self, *parts: tuple[Any, str, Any], store: type[MemoryStore] = MemoryStore) -> None:
        self.parts = parts
        self.store = store

    @contextmanager
    def planted(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, instead in self.parts:
                stack.enter_context(patch.object(owner, name, instead))
            yield
