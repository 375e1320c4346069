"""Results say which versions made them, also where some packages are not installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

import dynprune_env
from dynprune_env.common import provenance


def test_a_source_tree_that_is_not_installed_has_versions_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(name: str) -> str:
        if name in ("dynprune", "numba"):
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(provenance, "version", version)
    found = provenance.versions.__wrapped__()
    assert found["dynprune"] == dynprune_env.__version__
    assert found["torch"] == "1"
    assert "numba" not in found
