"""What PyPI is told: the README and the project's address."""

from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

ROOT = Path(__file__).parents[2]


def core_metadata():
    return ProjectMetadata(str(ROOT), PluginManager()).core


def test_without_an_address_the_readme_is_as_it_lies(monkeypatch):
    monkeypatch.delenv("DYNPRUNE_URL", raising=False)
    found = core_metadata()
    assert found.readme == (ROOT / "README.md").read_text(encoding="utf-8")
    assert found.readme_content_type == "text/markdown"
    assert not found.urls


@pytest.mark.parametrize("ref", ["v1.2.0", ""])
def test_with_an_address_pictures_and_links_lead_into_the_repository(monkeypatch, ref):
    monkeypatch.setenv("DYNPRUNE_URL", "https://forge.example/ours/dynprune/")
    monkeypatch.setenv("DYNPRUNE_REF", ref)
    found, at = core_metadata(), ref or "HEAD"
    place = "https://forge.example/ours/dynprune"
    assert f"]({place}/raw/{at}/docs/long.png)" in found.readme
    assert f"[the game]({place}/blob/{at}/docs/game.md)" in found.readme
    assert "[Gymnasium](https://gymnasium.farama.org)" in found.readme
    assert "](docs/" not in found.readme and "](benchmarks/" not in found.readme
    assert found.urls["Source"] == place
    assert found.urls["Changelog"] == f"{place}/blob/{at}/CHANGELOG.md"
