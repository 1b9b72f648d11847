"""What the decisions take and give is frozen data, and says so in one way."""

import dataclasses
import importlib
import inspect
import pkgutil
from typing import Any

import pytest

import policies

MODULES = [importlib.import_module(f"policies.{found.name}") for found in pkgutil.iter_modules(policies.__path__)]
DATACLASSES = [
    value
    for module in MODULES
    for _, value in inspect.getmembers(module, inspect.isclass)
    if dataclasses.is_dataclass(value) and value.__module__ == module.__name__
]


@pytest.mark.parametrize("cls", DATACLASSES, ids=lambda cls: cls.__qualname__)
def test_a_value_is_frozen_and_has_slots(cls: Any) -> None:
    """A rule or a state that somebody could change would be one state in two places."""
    assert cls.__dataclass_params__.frozen
    assert "__slots__" in vars(cls)
