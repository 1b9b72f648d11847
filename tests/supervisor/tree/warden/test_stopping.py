"""How often a warden looks again at what it could not end."""

from supervisor.tree.warden.stopping import FIRST_PATIENCE_S, LAST_PATIENCE_S, Stopping


def test_patience_grows_while_nothing_changes_and_has_a_bound() -> None:
    stopping = Stopping(1)
    found = [stopping.grown_patience_s({(7, 1)}) for _ in range(12)]
    assert found[:3] == [FIRST_PATIENCE_S, 2 * FIRST_PATIENCE_S, 4 * FIRST_PATIENCE_S]
    assert found[-2:] == [LAST_PATIENCE_S, LAST_PATIENCE_S]


def test_patience_begins_anew_with_every_change() -> None:
    stopping = Stopping(1)
    for _ in range(12):
        stopping.grown_patience_s({(7, 1), (8, 1)})
    assert stopping.grown_patience_s({(7, 1)}) == FIRST_PATIENCE_S
    assert stopping.grown_patience_s({(7, 1)}) == 2 * FIRST_PATIENCE_S
