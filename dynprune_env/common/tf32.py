"""Where CUDA rounds float32 to TF32, in whichever way this torch says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def _switches() -> dict[str, tuple[Any, str, Any, Any]]:
    """Object and attribute of each kind of operation, and its values for TF32 and for float32.

    Where torch has the newer attribute, to read the older one may be an error.
    """
    products = torch.backends.cuda.matmul
    convolutions = getattr(torch.backends.cudnn, "conv", None)
    if hasattr(convolutions, "fp32_precision"):
        newer = "fp32_precision", "tf32", "ieee"
        return {"convolutions": (convolutions, *newer), "products": (products, *newer)}
    older = "allow_tf32", True, False
    return {"convolutions": (torch.backends.cudnn, *older), "products": (products, *older)}


def where_tf32() -> list[str]:
    """The kinds of operations that take TF32: of "convolutions" and "products"."""
    found = _switches().items()
    return [kind for kind, (owner, name, tf32, _) in found if getattr(owner, name) == tf32]


@contextmanager
def without_tf32() -> Iterator[None]:
    """Inside, no operation of the process takes TF32."""
    switches = list(_switches().values())
    before = [getattr(owner, name) for owner, name, _, _ in switches]
    try:
        for owner, name, _, float32 in switches:
            setattr(owner, name, float32)
        yield
    finally:
        for (owner, name, _, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)
