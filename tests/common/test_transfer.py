"""Arrays arrive as they left, in one copy each way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynprune_env.common.transfer import fetch, put

CPU = torch.device("cpu")
ARRAYS = [
    np.arange(5),
    np.linspace(0, 1, 3, dtype=np.float32),
    np.zeros((0, 3), dtype=np.int64),
    np.arange(6, dtype=np.int32).reshape(2, 3)[:, ::2],
    np.array([True, False]),
]


def test_on_a_cpu_tensors_share_the_memory_of_the_arrays() -> None:
    for tensor, array in zip(put(ARRAYS, CPU), ARRAYS, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)
        assert not array.size or np.shares_memory(tensor.numpy(), array)


def test_through_one_block_of_bytes_arrays_keep_shape_type_and_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    staged: list[torch.Tensor] = []
    empty = torch.empty

    def watched(size: int, *, pin_memory: bool, **kind: object) -> torch.Tensor:
        staged.append(empty(size, **kind))
        return staged[-1]

    monkeypatch.setattr(torch, "empty", watched)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, non_blocking: self)
    found = put(ARRAYS, torch.device("cuda"))
    assert len(staged) == 1
    for tensor, array in zip(found, ARRAYS, strict=True):
        assert (tuple(tensor.shape), tensor.numpy().dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(tensor.numpy(), array)


def test_what_comes_back_keeps_its_shapes() -> None:
    tensors = [torch.rand(2, 3), torch.rand(0), torch.rand(4)]
    for found, tensor in zip(fetch(tensors), tensors, strict=True):
        np.testing.assert_array_equal(found, tensor.numpy())
