"""A CUDA graph on the CPU: what is recorded is not done yet, replays read and write in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

UNSAID = ("running_mean", "running_var")
"""Batch norm writes into these, which its schema does not say."""


class ReplayedGraph(TorchDispatchMode):
    """Stands for `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Notes an operation and does it, for its result's shape."""
        kwargs = kwargs or {}
        for place, argument in enumerate(func._schema.arguments):
            said = argument.alias_info is not None and argument.alias_info.is_write
            if said or argument.name in UNSAID:
                value = kwargs.get(argument.name, args[place] if place < len(args) else None)
                self.before += [(x, x.clone()) for x in _tensors(value)]
        found = func(*args, **kwargs)
        own = all(each.alias_info is None for each in func._schema.returns)
        self.operations.append((func, args, kwargs, _tensors(found) if own else []))
        return found

    def capture_begin(self, pool: Any, capture_error_mode: str) -> None:
        """From here on operations are recorded."""
        assert capture_error_mode == "thread_local"
        self.__enter__()

    def capture_end(self) -> None:
        """Undoes what was done for its result's shape."""
        self.__exit__(None, None, None)
        with torch.no_grad():
            for tensor, value in reversed(self.before):
                tensor.detach().copy_(value)
        self.before.clear()

    def pool(self) -> None:
        """Memory that no CPU shares."""

    def replay(self) -> None:
        """Does all of it again, where it was recorded."""
        with torch.no_grad():
            for func, args, kwargs, made in self.operations:
                found = _tensors(func(*args, **kwargs))
                for place, value in zip(made, found, strict=bool(made)):
                    place.detach().copy_(value)


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, Tensor)]
