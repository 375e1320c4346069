"""Arrays arrive as they left, in one copy each way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dynprune_env
from dynprune_env.common.transfer import fetch, put, send

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


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is said of each copy, on a machine that has only a CPU: nothing really leaves it."""
    seen: list[dict[str, Any]] = []
    empty = torch.empty
    pinned: list[torch.Tensor] = []

    def staged(size: Any, *, pin_memory: bool = False, **kind: Any) -> torch.Tensor:
        made = empty(size, **kind)
        pinned.extend([made] if pin_memory else [])
        return made

    def moved(thing: Any, device: torch.device, non_blocking: bool = False) -> Any:
        is_pinned = any(thing is each for each in pinned)
        seen.append({"to": device.type, "pinned": is_pinned, "non_blocking": non_blocking})
        return thing

    monkeypatch.setattr(torch, "empty", staged)
    monkeypatch.setattr(torch.Tensor, "to", moved)
    monkeypatch.setattr(torch.nn.Module, "to", moved)
    return seen


@pytest.mark.parametrize(("kind", "ahead"), [("cuda", True), ("xpu", True), ("mps", False)])
def test_through_one_block_of_bytes_arrays_keep_shape_type_and_values(
    kind: str, ahead: bool, copies: list[dict[str, Any]]
) -> None:
    found = put(ARRAYS, torch.device(kind))
    assert copies == [{"to": kind, "pinned": ahead, "non_blocking": ahead}]
    for tensor, array in zip(found, ARRAYS, strict=True):
        assert (tuple(tensor.shape), tensor.numpy().dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize(("kind", "ahead"), [("cuda", True), ("xpu", True), ("mps", False)])
def test_mps_is_waited_for_since_it_reads_what_may_be_freed_by_then(
    kind: str, ahead: bool, copies: list[dict[str, Any]]
) -> None:
    for thing in (torch.ones(2), torch.nn.Linear(2, 2)):
        assert send(thing, torch.device(kind)) is thing
    assert copies == [{"to": kind, "pinned": False, "non_blocking": ahead}] * 2


def test_nothing_is_copied_where_there_is_nothing(copies: list[dict[str, Any]]) -> None:
    assert put([], torch.device("cuda")) == []
    assert not copies


def test_no_other_code_decides_whether_a_copy_is_waited_for() -> None:
    root = Path(dynprune_env.__file__).parent
    found = {path.name for path in root.rglob("*.py") if "non_blocking" in path.read_text("utf-8")}
    assert found == {"transfer.py"}


class Elsewhere(torch.Tensor):
    """A tensor that says that it is on another device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


def test_what_comes_back_keeps_its_shapes_and_comes_in_one_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensors = [torch.rand(2, 3), torch.rand(0), torch.rand(4), torch.rand(3, 2).T]
    cpu, back = torch.Tensor.cpu, []

    def counted(self: torch.Tensor) -> torch.Tensor:
        back.append(self.numel())
        return cpu(self)

    monkeypatch.setattr(torch.Tensor, "cpu", counted)
    found = fetch([each.as_subclass(Elsewhere) for each in tensors])
    assert back == [16]
    for array, tensor in zip(found, tensors, strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())


def test_from_a_cpu_memory_is_shared() -> None:
    tensors = [torch.rand(2, 3), torch.rand(4)]
    for array, tensor in zip(fetch(tensors), tensors, strict=True):
        assert np.shares_memory(array, tensor.numpy())
