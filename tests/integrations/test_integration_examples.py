"""The examples for other people's loops run, are short, and prune."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.libraries import FRAMEWORKS
from helpers.pages import ROOT

FOLDER = ROOT / "examples" / "integrations"
NEEDS = {row["example"]: package for package, row in FRAMEWORKS.items() if "example" in row}


def test_every_example_is_in_the_table() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(NEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
def test_an_example_is_short_and_trains(name: str, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed")
    path = FOLDER / name
    assert len(path.read_text().splitlines()) <= 40
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    (accuracy,) = re.findall(r"test accuracy ([\d.]+)%", done.stdout)
    assert float(accuracy) > 88
