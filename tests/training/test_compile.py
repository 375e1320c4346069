"""`compile=True` trains the same model."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from helpers.episodes import assert_same, make, play, random_masks


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_net_trains_like_the_plain_one_and_is_compiled_once(
    pictures: dict[str, Any],
) -> None:
    plain, compiled = make(**pictures), make(**pictures, compile=True)
    masks = [np.ones(48, dtype=bool), *random_masks(plain, 3)]
    expected = play(plain, masks, seed=3)
    assert_same(play(compiled, masks, seed=3), expected, 1e-3)
    with torch.compiler.set_stance("fail_on_recompile"):
        assert play(compiled, random_masks(plain, 4, seed=1), seed=4)[-1][2]
