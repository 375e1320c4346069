"""The engine computes as if it were alone: whatever its caller has switched in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch

from dynprune_env.common.held import Held
from dynprune_env.common.randomness import kept_generators


@contextmanager
def as_alone(device: torch.device | None = None) -> Iterator[None]:
    """Switches gradients on, and inference mode, autocast and a default device off, meanwhile.

    All of these belong to the thread: no other one notices.

    Args:
        device: where tensors without a device go if the caller has chosen a default device; None
            means the CPU.
    """
    device = device or torch.device("cpu")
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        if torch.get_default_device() not in (device, torch.device("cpu")):
            stack.enter_context(device)
        yield


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
    return _REPEATING.held() if wanted else nullcontext()


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
