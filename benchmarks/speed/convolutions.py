"""What the convolutions of a net take by themselves on CUDA: no training step can be faster."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

REPLAYS = 50
"""Of each recorded convolution, in one timing."""


def convolution_seconds(model: nn.Module, x: Tensor) -> float:
    """Seconds of one forward and backward pass of all convolutions, one after the other.

    Each runs from a CUDA graph, in bf16 and channels last, with cuDNN's own choice of kernels, on
    inputs that are at hand: batch norm, activations, loss and optimizer are left out.

    Args:
        model: on a CUDA device, which need not be the current one; in evaluation mode afterwards.
        x: (B, C, H, W) float32, on the same.
    """
    seen: list[tuple[nn.Conv2d, torch.Size]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        seen.append((layer, inputs[0].shape))

    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, nn.Conv2d)]
    try:
        with torch.no_grad():
            model.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
    first = seen[0][1]
    with torch.cuda.device(x.device):  # streams, graphs and waits are the current one's
        return sum(_recorded_seconds(_pass(*each, inputs=each[1] != first)) for each in seen)


def _pass(layer: nn.Conv2d, shape: torch.Size, inputs: bool) -> Callable[[], object]:
    """A layer's forward and backward pass; the gradient of the images is not needed."""
    kind = {"device": layer.weight.device, "dtype": torch.bfloat16}
    x = torch.randn(shape, **kind).to(memory_format=torch.channels_last).requires_grad_(inputs)
    weight = layer.weight.detach().to(torch.bfloat16, memory_format=torch.channels_last)
    weight.requires_grad_()
    wanted = (x, weight) if inputs else (weight,)

    def forward() -> Tensor:
        return conv2d(x, weight, None, layer.stride, layer.padding)  # type: ignore[arg-type]

    with torch.no_grad():
        gradient = torch.randn_like(forward())
    return lambda: torch.autograd.grad(forward(), wanted, gradient)


def _recorded_seconds(run: Callable[[], object]) -> float:
    """Wall-clock seconds of one replay of what was recorded."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            run()
        graph.replay()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(REPLAYS):
            graph.replay()
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / REPLAYS
