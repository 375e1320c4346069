"""The engine computes as if it were alone: whatever its caller has switched in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch

from dynprune_env.common.held import Held
from dynprune_env.common.randomness import kept_generators


def as_alone(device: torch.device | None = None) -> AbstractContextManager[None]:
    """Switches gradients on, and inference mode, autocast and a default device off, meanwhile.

    All of these belong to the thread: no other one notices.

    Args:
        device: where tensors without a device go if the caller has chosen a default device; None
            means the CPU.
    """
    switches = _switches(device or _CPU)
    return _all_of(switches) if switches else _NOTHING


_CPU, _NOTHING = torch.device("cpu"), nullcontext()


@contextmanager
def _all_of(switches: list[AbstractContextManager[Any]]) -> Iterator[None]:
    with ExitStack() as stack:
        for switch in switches:
            stack.enter_context(switch)
        yield


def _switches(device: torch.device) -> list[AbstractContextManager[Any]]:
    """What `as_alone` must switch now: mostly nothing."""
    found: list[AbstractContextManager[Any]] = []
    if torch.is_inference_mode_enabled():
        found.append(torch.inference_mode(False))
    if not torch.is_grad_enabled():
        found.append(torch.enable_grad())
    if torch.is_autocast_enabled(device.type):
        found.append(torch.autocast(device.type, enabled=False))
    if torch.empty(0).device not in (device, _CPU):  # faster than to ask for the default one
        found.append(device)
    return found


def _read_cudnn() -> tuple[bool, bool]:
    return torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark


def _write_cudnn(switches: tuple[bool, bool]) -> None:
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = switches


# Trying out which algorithm is the fastest takes another one each time.
_REPEATING = Held(_read_cudnn, _write_cudnn, (True, False))
_FLOAT32 = Held(torch.get_default_dtype, torch.set_default_dtype, torch.float32)


def same_again(wanted: bool) -> AbstractContextManager[None]:
    """Lets cuDNN take only algorithms that give the same numbers again, if that is wanted.

    The choice is that of the process: other threads that use cuDNN meanwhile do so too.
    """
    return _REPEATING.held() if wanted else _NOTHING


def float32_default() -> AbstractContextManager[None]:
    """Lets tensors without a type be float32, for models whose code names none.

    The default is that of the process: where it is another, other threads see this one meanwhile.
    """
    return _FLOAT32.held()


@contextmanager
def building() -> Iterator[None]:
    """For networks that get other weights than their first: `as_alone`, float32, nothing drawn."""
    with as_alone(), float32_default(), kept_generators():
        yield
