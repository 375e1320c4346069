"""The package's metadata that depend on where the project lies.

A build that is to be published sets DYNPRUNE_URL (the repository's address) and DYNPRUNE_REF (the
tag): then the README's relative links and pictures become absolute, as PyPI needs them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


def with_address(text: str, url: str, ref: str) -> str:
    """Markdown whose relative links and pictures lead into a repository at a tag or branch."""

    def absolute(found: re.Match[str]) -> str:
        picture, words, path = found.groups()
        return f"{picture}[{words}]({url}/{'raw' if picture else 'blob'}/{ref}/{path})"

    return LINK.sub(absolute, text)


class AddressHook(MetadataHookInterface):
    """Fills in `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Changes the metadata in place."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        url = os.environ.get("DYNPRUNE_URL", "").rstrip("/")
        if url:
            ref = os.environ.get("DYNPRUNE_REF") or "HEAD"
            text = with_address(text, url, ref)
            metadata["urls"] = {
                "Source": url,
                "Changelog": f"{url}/blob/{ref}/CHANGELOG.md",
                "Issues": f"{url}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
