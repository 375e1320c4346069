"""Runs what is shown on a pretended accelerator, in processes that have one from their start on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.slow import slow

FOLDER = Path(__file__).with_name("pretended")


@pytest.mark.parametrize("part", ["games", *slow("agents", "runs", "speed")])
def test_all_of_it_holds_on_the_pretended_device(part: str) -> None:
    options = ["-n0", "-p", "no:cacheprovider", "-rs", "--tb=short"]
    command = [sys.executable, "-m", "pytest", *options, str(FOLDER / f"{part}.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    if " passed" not in done.stdout:
        pytest.skip(done.stdout[-500:])
