"""Commands run in an empty working directory."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
