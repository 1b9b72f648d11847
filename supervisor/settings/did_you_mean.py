"""The nearest known name to one that is not known."""

from collections.abc import Iterable
from itertools import islice


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like the given one, whatever their case; None if none is near.

    Of very many known names the first 500 are looked at.
    """
    import difflib  # for who has mistyped

    names = {each.lower(): each for each in islice(known, 500)}
    near = difflib.get_close_matches(name.lower()[:100], names, n=1, cutoff=0.6)
    return names[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str], *, most: int = 12) -> str:
    """Return the end of an error's sentence: the nearest name, else what is known (at most so many names)."""
    names = list(known)
    if (near := nearest(name, names)) is not None:
        return f"; did you mean {near}?"
    if not names:
        return ""
    more = ", ..." if len(names) > most else ""
    return f"; known: {', '.join(names[:most])}{more}"
