"""Random subsets are those of the highest draws, however few of these are looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dynprune_env.common.randomness import ReplicaRandom
from dynprune_env.selection import drawing
from dynprune_env.selection.drawing import keep_random
from dynprune_env.selection.ranking import draws_among, keep_top


@pytest.mark.parametrize("seeds", [5, (5, 6)])
@pytest.mark.parametrize("share", [None, 0.0, 0.03, 0.6, 1.0])
def test_the_highest_draws_are_kept(
    seeds: Any, share: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "LARGE", 20)
    n, rows = 20_011, np.shape(seeds)
    among = None if share is None else np.random.default_rng(0).random((*rows, n)) < share
    for count in (-1, 0, 1, 20, 600, 11_000, 20_010, n, n + 1):
        ours, theirs = ReplicaRandom(seeds), ReplicaRandom(seeds)
        draws = theirs.random(n) if among is None else draws_among(among, theirs)
        expected = keep_top(draws, count, theirs)
        np.testing.assert_array_equal(keep_random(n, count, ours, among), expected)
        np.testing.assert_array_equal(ours.random(2), theirs.random(2))


class Coarse:
    """Draws that are often equal."""

    def __init__(self, seed: int, values: int):
        self.own, self.values = np.random.default_rng(seed), values
        self.bit_generator, self.choice = self.own.bit_generator, self.own.choice

    def random(self, size: int | None = None, out: Any = None) -> Any:
        """Multiples of one over the number of values."""
        drawn = self.own.random(size, out=out)
        drawn *= self.values
        np.floor(drawn, out=drawn)
        drawn /= self.values
        return drawn


@pytest.mark.parametrize("values", [1, 3, 4_000])
def test_ties_fall_as_where_all_draws_are_looked_at(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "LARGE", 20)
    for count in (700, 5_000, 9_990):
        ours, theirs = ReplicaRandom(0), ReplicaRandom(0)
        ours._generators[0], theirs._generators[0] = Coarse(1, values), Coarse(1, values)  # type: ignore[assignment]
        expected = keep_top(theirs.random(10_000), count, theirs)
        np.testing.assert_array_equal(keep_random(10_000, count, ours), expected)
