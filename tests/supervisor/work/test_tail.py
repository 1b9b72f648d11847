"""The last bytes of what came, in whatever pieces."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from supervisor.work.tail import Tail


@given(st.lists(st.binary(max_size=40)), st.integers(1, 30))
def test_it_is_the_end_of_all_that_was_added(chunks: list[bytes], most_bytes: int) -> None:
    tail = Tail(most_bytes)
    for number, chunk in enumerate(chunks):
        tail.add(memoryview(chunk))
        assert tail.bytes() == b"".join(chunks[: number + 1])[-most_bytes:]


def test_small_chunks_take_no_more_memory_than_large_chunks() -> None:
    tail, chunk = Tail(100_000), memoryview(b"x" * 50)
    tracemalloc.start()
    for _ in range(50_000):
        tail.add(chunk)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 500_000
    assert tail.bytes() == b"x" * 100_000


def test_it_tells_whether_something_was_dropped() -> None:
    tail = Tail(10)
    tail.add(memoryview(b"0123456789"))
    assert not tail.is_cut
    tail.add(memoryview(b"x"))
    assert tail.is_cut
