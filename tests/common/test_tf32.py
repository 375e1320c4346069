"""Where float32 is rounded to TF32 is read and switched in both of torch's ways."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dynprune_env.benchmark import identity
from dynprune_env.common.tf32 import where_tf32, without_tf32
from dynprune_env.envs.settings import Settings

BACKENDS = torch.backends


@pytest.fixture(params=["new", "old"])
def chosen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets what convolutions and products take; of a new torch, or as an old one has it."""
    if request.param == "old":
        conv, matmul = SimpleNamespace(allow_tf32=True), SimpleNamespace(allow_tf32=False)
        fake = SimpleNamespace(cudnn=conv, cuda=SimpleNamespace(matmul=matmul))
        monkeypatch.setattr(torch, "backends", fake)
        yield (
            lambda *takes: (
                vars(conv).update(allow_tf32=takes[0]) or vars(matmul).update(allow_tf32=takes[1])
            )
        )
        return
    if not hasattr(BACKENDS.cudnn, "conv"):
        pytest.skip("this torch has no fp32_precision")
    owners = BACKENDS.cudnn.conv, BACKENDS.cuda.matmul
    before = [owner.fp32_precision for owner in owners]

    def choose(*takes: bool) -> None:
        for owner, each in zip(owners, takes, strict=True):
            owner.fp32_precision = "tf32" if each else "ieee"

    yield choose
    for owner, value in zip(owners, before, strict=True):
        owner.fp32_precision = value


CHOICES = {
    (True, True): ["convolutions", "products"],
    (True, False): ["convolutions"],
    (False, True): ["products"],
    (False, False): [],
}


@pytest.mark.parametrize("takes", CHOICES)
def test_what_takes_it_is_named_and_put_back(takes: tuple[bool, bool], chosen: Any) -> None:
    chosen(*takes)
    assert where_tf32() == CHOICES[takes]
    with pytest.raises(KeyboardInterrupt), without_tf32():
        assert where_tf32() == []
        raise KeyboardInterrupt
    assert where_tf32() == CHOICES[takes]


@pytest.mark.skipif(not hasattr(BACKENDS.cudnn, "conv"), reason="this torch has no fp32_precision")
def test_a_fingerprint_is_taken_after_convolutions_were_given_a_precision_of_their_own() -> None:
    conv = BACKENDS.cudnn.conv
    before = conv.fp32_precision
    try:
        conv.fp32_precision = "ieee"
        assert identity._cuda_switches(Settings())["tf32"] == "nowhere"
    finally:
        conv.fp32_precision = before


def test_torchs_older_switch_is_seen() -> None:
    matmul = BACKENDS.cuda.matmul
    before = matmul.allow_tf32
    try:
        for taken in (True, False):
            matmul.allow_tf32 = taken
            assert ("products" in where_tf32()) is taken
    finally:
        matmul.allow_tf32 = before
