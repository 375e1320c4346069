"""The rows of the tables of libraries, which the tests run."""

from __future__ import annotations

import sys
from typing import Any

from helpers.pages import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROWS: dict[str, list[dict[str, Any]]] = tomllib.loads(
    (ROOT / "docs/libraries.toml").read_text(encoding="utf-8")
)
LIBRARIES = {row["play"]: row for row in ROWS["library"]}
FRAMEWORKS = {row["package"]: row for row in ROWS["framework"]}
MODES = {"NEXT_STEP": "NextStep", "SAME_STEP": "SameStep", "DISABLED": "Disabled"}


def cells(*without: str) -> list[tuple[str, str | None, str, str]]:
    """(how it is played, autoreset mode or None, observation, action) of all rows but some."""
    return [
        (play, MODES.get(mode), observation, action)
        for play, row in LIBRARIES.items()
        for mode in row["modes"] or [""]
        for observation in row["observations"]
        for action in row["actions"]
        if play not in without
    ]
