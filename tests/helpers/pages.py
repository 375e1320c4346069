"""The README and the pages of the documentation, their snippets, and scripts run as users do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
"""By name; those that are generated, from docstrings and results, have no snippets to run."""


def text_of(page: str) -> str:
    """What a page says."""
    return PAGES[page].read_text(encoding="utf-8")


def snippets(page: str, language: str = "python") -> list[str]:
    """The blocks of a page in one language, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.DOTALL)


def run(arguments: list[str], folder: Path) -> str:
    """What a script prints that runs in a folder without a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
