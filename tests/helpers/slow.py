"""Parameters whose tests take long: they run with `-m slow` only."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*values: Any) -> list[Any]:
    """Each as a parameter that is left out unless asked for."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]
