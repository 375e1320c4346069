"""Public names that are loaded at their first use, so that importing a package stays light."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, exports: dict[str, str], others: list[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's `__getattr__` and `__dir__`.

    Args:
        package: its full name.
        exports: for each public name the module below the package that defines it.
        others: its names that are there from the start.
    """

    def load(name: str) -> Any:
        """Loads a public name at its first use."""
        if name in exports:
            return getattr(import_module(f"{package}.{exports[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        """The public names, also those not loaded yet."""
        return sorted({*others, *exports})

    return load, names
