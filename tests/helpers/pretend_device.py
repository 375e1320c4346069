"""A pretended accelerator: the CPU computes, but CPU tensors do not mix with its own, as on CUDA.

Whenever the host would have to wait for the device, that is noted, and so is each copy to it and
from it. It has no float64, as MPS has none. It may go by the name of another device. What this
cannot show: speed, CUDA graphs, bf16 (autocast does nothing here), and what kernels of a device
round otherwise.

To import this gives the process the device for good: only for processes of their own, see
`tests/devices/test_pretended.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

try:
    from torch.utils.backend_registration import (
        _DummyBackendModule,
        _setup_privateuseone_for_python_backend,
    )

    MISSING = ""
except ImportError as error:  # they are experimental, from torch 2.9 on
    _DummyBackendModule = object  # type: ignore[assignment,misc]
    MISSING = f"this torch has no devices written in Python: {error}"
"""Why there can be no pretended device here, or nothing."""

NAME = "pretend"
aten = torch.ops.aten

WAITING = {
    aten._local_scalar_dense.default,
    aten._unique2.default,
    aten.bincount.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
    aten.unique_consecutive.default,
    aten.unique_dim.default,
}
"""Operations whose result, or the shape of it, the host must know."""

INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
"""Take indices from the CPU, and copy them while the host waits; bools are looked for first."""


@dataclass(frozen=True)
class Copy:
    """What went over to the device at once: bytes, and whether nobody waited for it."""

    nbytes: int
    pinned: bool
    non_blocking: bool


@dataclass
class Log:
    """What the host did with the device: where it waited, what it copied there, bytes of what back.

    What comes back as a single number counts as a wait alone.
    """

    waits: list[str] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    fetched: list[int] = field(default_factory=list)

    def clear(self) -> None:
        """Forgets all of it."""
        self.waits.clear()
        self.copies.clear()
        self.fetched.clear()


_log = Log()
_called = torch.device("cpu")  # what its tensors say while there is one


class PretendTensor(torch.Tensor):
    """Says that it is on the device; `raw` is the CPU tensor that holds its numbers."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> PretendTensor:
        if raw.dtype in (torch.float64, torch.complex128):
            raise TypeError(f"the pretended device has no {raw.dtype}, as MPS has none")
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
            requires_grad=raw.requires_grad,
        )
        self.raw = raw
        return self

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return _called

    def __repr__(self) -> str:  # type: ignore[override]
        return f"PretendTensor({self.raw})"

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.raw.untyped_storage()

    def tolist(self) -> Any:
        _wait("tolist")
        return self.raw.tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        raise TypeError("can't convert a tensor of the pretended device to numpy: use .cpu() first")


def _wait(what: object) -> None:
    frame = sys._getframe(1)
    while frame.f_back is not None and "/dynprune" not in frame.f_code.co_filename:
        frame = frame.f_back
    _log.waits.append(f"{what} at {frame.f_code.co_filename}:{frame.f_lineno}")


def _note_copy(source: Tensor, non_blocking: bool) -> None:
    if not non_blocking:
        _wait("copy to the device")
    pinned = getattr(source, "pretends_to_be_pinned", False)
    _log.copies.append(Copy(source.nbytes, pinned, non_blocking))


def _note_fetched(source: Tensor) -> None:
    _wait("copy to the host")
    _log.fetched.append(source.nbytes)


def _is_ours(value: Any) -> bool:
    return isinstance(value, PretendTensor)


def _check_mixing(func: Any, tensors: list[Tensor]) -> None:
    for tensor in tensors:
        if tensor.dim() and not _is_ours(tensor):
            shape = tuple(tensor.shape)
            raise RuntimeError(f"{func}: a CPU tensor of shape {shape} met the pretended device")


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    device = kwargs.get("device")
    kind = None if device is None else torch.device(device).type
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if _is_ours(tensor)]
    pinned = kwargs.pop("pin_memory", None)
    if not ours and kind != NAME:
        made = func(*args, **kwargs)
        if pinned:
            made.pretends_to_be_pinned = True
        return made
    _look_at(func, args, kwargs, kind, tensors)
    if kind is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    out = func(*tree_map(_raw, args), **tree_map(_raw, kwargs))
    if func is aten.copy_.default and not _is_ours(args[0]):
        return args[0]
    if kind == "cpu":
        return out
    changed = {id(tensor.raw): tensor for tensor in ours} if func._schema.is_mutable else {}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return changed[id(value)] if id(value) in changed else PretendTensor(value)

    return tree_map(wrapped, out)


def _look_at(func: Any, args: Any, kwargs: Any, kind: str | None, tensors: list[Tensor]) -> None:
    """Notes what the host waits for and copies; refuses to mix."""
    if func in WAITING:
        _wait(func)
    if func is aten.copy_.default:
        _check_copy(*args, **kwargs)
    elif func is aten._to_copy.default:
        if kind == "cpu":
            _note_fetched(args[0])
        elif kind == NAME and not _is_ours(args[0]):
            _note_copy(args[0], kwargs.get("non_blocking", False))
    elif func in INDEXING:
        _check_indices(args[1])
    elif any(map(_is_ours, tensors)):
        _check_mixing(func, tensors)


def _check_copy(target: Tensor, source: Tensor, non_blocking: bool = False) -> None:
    if _is_ours(source) and not _is_ours(target):
        _note_fetched(source)
    elif _is_ours(target) and not _is_ours(source) and source.dim():
        _note_copy(source, non_blocking)


def _check_indices(indices: Any) -> None:
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            _wait("boolean index")
        elif index is not None and not _is_ours(index) and index.dim():
            _wait("indices from the host")


def _raw(value: Any) -> Any:
    return value.raw if _is_ours(value) else value


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _Functions(TorchFunctionMode):
    """What torch does past its dispatcher: `torch.tensor(..., device=)`, lists as indices."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to:
            args = tuple(map(_renamed, args))
        if kwargs.get("device") is not None:
            kwargs["device"] = _renamed(kwargs["device"])
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and _is_ours(args[0]):
            own = tuple(map(_as_index, args[1])) if isinstance(args[1], tuple) else args[1]
            args = (args[0], _as_index(own), *args[2:])
        if func in (torch.tensor, torch.as_tensor):
            device = kwargs.pop("device", None)
            made = func(*args, **kwargs)
            return made if device is None else made.to(device)
        return func(*args, **kwargs)


def _renamed(value: Any) -> Any:
    """The pretended device, where it is asked for by the name that it goes by."""
    if not isinstance(value, str | torch.device):
        return value
    try:
        asked = _numbered(torch.device(value))
    except RuntimeError:  # torch says why
        return value
    return torch.device(NAME, 0) if asked == _called else value


def _numbered(device: torch.device) -> torch.device:
    return torch.device(device.type, device.index or 0)


def _as_index(index: Any) -> Any:
    if isinstance(index, list):
        return torch.tensor(index)
    return torch.from_numpy(index) if isinstance(index, np.ndarray) and index.ndim else index


class _Backend(_DummyBackendModule):
    """What torch asks of a device's module besides."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = NAME) -> Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: Any = NAME) -> None:
        """It has no generator: the CPU's draws."""


if not MISSING:  # before the first gradient of the process, which counts the devices
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    _library = torch.library.Library("_", "IMPL")
    _library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")


@contextmanager
def pretended(called: str = NAME) -> Iterator[Log]:
    """Inside, there is such a device; modules move to it with all their numbers.

    Args:
        called: its name, which may be that of a real device: "cuda:1" is asked for and found, and
            what asks for "cuda" does not get it.
    """
    global _called
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    _log.clear()
    _called = _numbered(torch.device(called))
    try:
        with _Dispatch(), _Functions():
            yield _log
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
