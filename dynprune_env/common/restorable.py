"""Classes whose instances a file may hold: those that say so, and an agent's own simple ones.

Making one sets its attributes; no method of it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

HEAP_TYPE = 1 << 9
"""Flag of classes that are written in Python."""

OWN_PICKLING = {"__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__del__"}

Class = TypeVar("Class", bound=type)
_RESTORABLE: dict[str, type] = {}


def restorable(cls: Class) -> Class:
    """Says that instances of a class are their attributes, and may be made from a file's."""
    _RESTORABLE[class_name(cls)] = cls
    return cls


def class_name(cls: type) -> str:
    """Where a class is: package.module:Class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def find_class(name: str, modules: Iterable[str]) -> type | None:
    """The class of that name if it may be made; nothing is imported.

    Args:
        name: see `class_name`.
        modules: where classes may be that are not said to be restorable. They have to be defined
            there, and to hold nothing but attributes.
    """
    if name in _RESTORABLE:
        return _RESTORABLE[name]
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module) if module in modules else None
    for part in path.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    if not isinstance(found, type) or class_name(found) != name:
        return None
    bases = [base for base in found.__mro__ if base not in (object, Generic)]
    if issubclass(found, tuple) and hasattr(found, "_fields"):
        bases.remove(tuple)
        return found if len(bases) == 1 else None
    slots = any(vars(base).get("__slots__") for base in bases)
    simple = all(base.__flags__ & HEAP_TYPE and not OWN_PICKLING & {*vars(base)} for base in bases)
    return found if simple and not slots else None


def described(kind: type) -> str:
    """A class in a message."""
    name = kind.__qualname__ if kind.__module__ == "builtins" else class_name(kind)
    return f"a {name}"
