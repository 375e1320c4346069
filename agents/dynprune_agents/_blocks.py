"""Sums over many samples in parts whose intermediate results stay in a near cache."""

from __future__ import annotations

from collections.abc import Iterator

BLOCK = 16_384
"""Samples of a part: of float64, an eighth of a megabyte each array."""


def blocks(n: int) -> Iterator[slice]:
    """Slices that cover n samples in order."""
    for at in range(0, n, BLOCK):
        yield slice(at, min(n, at + BLOCK))
