"""What a caller gives a run, proved: its session's key, its policy, its lock."""

import unicodedata
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Final

from policies.policy import Policy
from supervisor.settings.did_you_mean import did_you_mean

if TYPE_CHECKING:
    from supervisor.lock.session_lock import LockFiles

LONGEST_KEY: Final = 512


def check_session(session: object) -> None:
    """Raise a ValueError, or a TypeError, for what cannot be a session's key."""
    if not isinstance(session, str):
        raise TypeError(f"a session key is text, got {type(session).__name__}")
    if not 1 <= len(session) <= LONGEST_KEY:
        raise ValueError(f"a session key has 1 to {LONGEST_KEY} characters, got {len(session)}")
    for character in session:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError(f"a session key has no control characters, got {character!r} in {session[:80]!r}")


def check_policies(policies: Mapping[str, object]) -> None:
    """Raise a TypeError for what is no policy."""
    for name, rules in policies.items():
        if not isinstance(rules, Policy):
            raise TypeError(
                f"policies maps names to Policy objects, got {type(rules).__name__} for {name!r}: "
                "tables as in settings.toml are for Supervisor.from_settings(policies=...)"
            )


def policy_of(policy: str | Policy, policies: Mapping[str, Policy]) -> Policy:
    """Return the policy that is meant; ValueError for a name that there is not."""
    if isinstance(policy, Policy):
        return policy
    if not isinstance(policy, str):
        raise TypeError(f"policy is a name or a Policy, got {type(policy).__name__}")
    found = policies.get(policy)
    if found is None:
        raise ValueError(f"unknown policy {policy!r}{did_you_mean(policy, policies)}")
    return found


def lock_path_of(lock: str | PathLike[str], locks: "LockFiles") -> Path:
    """Return the one spelling of a lock's path, once: the working directory may change between two attempts."""
    if not fspath(lock):
        raise ValueError("lock needs the path of the session's file, got an empty one")
    return locks.real_path(Path(lock))
