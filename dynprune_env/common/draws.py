"""What models and data sets draw from torch, drawn from a generator of their own instead."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.utils import checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

from dynprune_env.common.alone import float32_default
from dynprune_env.common.randomness import LOCK, seeded

_DRAWS = torch.Tag.nondeterministic_seeded
_CHECKPOINTS = checkpoint.__file__


class OwnDraws(TorchDispatchMode):
    """Draws on a CPU that name no generator come from one of their own, in this thread only.

    The numbers are those of torch's default generator under the same seed; that one is neither
    read nor moved, and other threads that draw from it change nothing.

    Args:
        seed: of the generator.
    """

    def __init__(self, seed: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator("cpu").manual_seed(seed)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch wraps operations for code that it compiles, which takes seconds to load."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation; one that draws gets the generator."""
        kwargs = kwargs or {}
        if (
            _DRAWS not in func.tags
            or kwargs.get("generator") is not None
            or _device(args, kwargs).type != "cpu"
            or self._is_set_elsewhere()
        ):
            return func(*args, **kwargs)
        taking = _taking_generator(func)
        if taking is not None:
            return taking(*args, **{**kwargs, "generator": self._generator})
        with LOCK:  # an operation that takes none
            default, before = torch.default_generator, torch.default_generator.get_state()
            default.set_state(self._generator.get_state())
            try:
                return func(*args, **kwargs)
            finally:
                self._generator.set_state(default.get_state())
                default.set_state(before)

    def _is_set_elsewhere(self) -> bool:
        return False


class WatchedDraws(OwnDraws):
    """The same for foreign code, which may set the default generator, seeded alike under the lock.

    What is drawn after such code has seeded it, or within a checkpoint, which repeats its draws by
    it, comes from there.
    """

    def __init__(self, seed: int):
        super().__init__(seed)
        self._watched = torch.default_generator.initial_seed()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Foreign code may be compiled."""
        return True

    __torch_dispatch__ = OwnDraws.__torch_dispatch__  # named here, so that torch wraps it

    def _is_set_elsewhere(self) -> bool:
        return torch.default_generator.initial_seed() != self._watched or _in_checkpoint()


def _in_checkpoint() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == _CHECKPOINTS:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


@cache
def _taking_generator(func: Any) -> Any:
    """The same operation with a generator among its keywords, None if there is none."""
    names = [argument.name for argument in func._schema.arguments]
    packet = func.overloadpacket
    for each in (func, *(getattr(packet, name) for name in packet.overloads())):
        found = [argument.name for argument in each._schema.arguments]
        if "generator" in found and (
            each is func or sorted(found) == sorted([*names, "generator"])
        ):
            return each
    return None


def _device(args: Sequence[Any], kwargs: dict[str, Any]) -> torch.device:
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            return value.device
    return torch.device(kwargs.get("device") or "cpu")


@contextmanager
def drawing(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Whatever foreign code draws from torch comes from this seed: one thread of ours at a time.

    Tensors to which it gives no type are float32.

    On a CPU others that draw meanwhile change nothing. On a GPU, and where code seeds the default
    generator itself, they must not draw from it.
    """
    with float32_default(), seeded(seed, device), WatchedDraws(seed):
        yield
