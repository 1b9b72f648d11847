"""Where Turnkeeper keeps its state on this machine."""

from pathlib import Path


def state_folder() -> Path:
    """Return the user's state folder for Turnkeeper, as the XDG base directories name it; it may not be there yet."""
    import platformdirs

    return platformdirs.user_state_path("turnkeeper")


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may read, and those above it that are missing; raises OSError."""
    if not folder.parent.exists():
        make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
