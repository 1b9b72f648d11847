"""What the clocks of a zone show, and when: over the hours that they leave out, and those that they show twice.

A reading is what a clock on the wall shows, as a number: the seconds since 1970 of that moment in UTC at which clocks
in UTC show the same.
"""

from datetime import datetime, timedelta, tzinfo

HOUR_S = 3600
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a reading has no zone


def offset_s(zone: tzinfo, moment: int) -> int:
    """Return how far the zone's clocks are ahead of UTC at a moment."""
    return _seconds(datetime.fromtimestamp(moment, zone).utcoffset())


def _seconds(offset: timedelta | None) -> int:
    assert offset is not None, "a zone says how far it is from UTC"
    return offset.days * 86400 + offset.seconds


def moment_of(zone: tzinfo, reading: int) -> int:
    """Return the moment that croner 10 means by a reading.

    Of two moments with this reading the first, where clocks were set back by an hour; by anything else, the one that
    the offset at the same moment in UTC leads to. A reading that clocks leave out is taken as if they had not yet been
    set.
    """
    shown = (_EPOCH + timedelta(seconds=reading)).replace(tzinfo=zone)
    offset = _seconds(shown.utcoffset())
    if _seconds(shown.replace(fold=1).utcoffset()) == offset:
        return reading - offset
    guess = reading - offset_s(zone, reading)
    if guess + offset_s(zone, guess) == reading:
        earlier = guess - HOUR_S
        return earlier if earlier + offset_s(zone, earlier) == reading else guess
    return max(guess, reading - offset_s(zone, guess))


def change_between(zone: tzinfo, low: int, high: int) -> int:
    """Return the first moment at which the offset is that at `high`, where at `low` it is another one."""
    after = offset_s(zone, high)
    while high - low > 1:
        middle = (low + high) // 2
        if offset_s(zone, middle) == after:
            high = middle
        else:
            low = middle
    return high
