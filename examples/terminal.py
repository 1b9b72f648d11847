"""What the examples print with: wrapped lines, and a list of claims that decides on the exit status."""

import textwrap

Claim = tuple[bool, str]
"""Whether something holds, and what."""


def show(text: str) -> None:
    """Print a long line over several, the later ones indented."""
    print(
        textwrap.fill(text, 118, subsequent_indent=" " * 13, break_long_words=False, break_on_hyphens=False), flush=True
    )


def what_holds(claims: list[Claim]) -> int:
    """Print each claim with yes or NO; return 0 if all of them hold, else 1."""
    print("\nWhat holds:\n")
    for holds, claim in claims:
        print(f"  {'yes' if holds else 'NO '}  {claim.strip()}")
    return 0 if all(holds for holds, _ in claims) else 1
