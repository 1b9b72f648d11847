"""Where Turnkeeper keeps its state on this machine."""

from pathlib import Path


def state_folder() -> Path:
    """Return the user's state folder for Turnkeeper, as the XDG base directories name it; it may not be there yet."""
    import platformdirs

    return platformdirs.user_state_path("turnkeeper")
