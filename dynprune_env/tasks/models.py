"""Model factories: (input shape, number of classes) -> torch module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import prod, sqrt

import torch
from torch import Tensor, nn

from dynprune_env.common.checks import shown
from dynprune_env.common.specs import checked_arguments, lookup, parse_spec
from dynprune_env.tasks.text_models import TOKEN_MODELS

InputShape = tuple[int, ...]
Model = str | Callable[[], nn.Module]
"""A spec such as "mlp(width=32)", or a function that makes a fresh module."""


def mlp(input_shape: InputShape, num_classes: int, width: int = 64, depth: int = 1) -> nn.Module:
    """Fully connected net with `depth` hidden ReLU layers of `width` units."""
    sizes = [prod(input_shape)] + [width] * depth
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))


def linear_parameters(sizes: Sequence[tuple[int, int]], seed: int) -> list[tuple[Tensor, Tensor]]:
    """What `nn.Linear` layers draw when they are built one after another from a seed, unbuilt.

    Args:
        sizes: inputs and outputs of each.
        seed: of torch's generator.

    Returns:
        Weights (outputs, inputs) and biases (outputs,), float32 on the CPU.
    """
    generator, parameters = torch.Generator("cpu").manual_seed(seed), []
    for inputs, outputs in sizes:
        weight, bias = (
            torch.empty(shape, dtype=torch.float32, device="cpu")
            for shape in ((outputs, inputs), (outputs,))
        )
        nn.init.kaiming_uniform_(weight, a=sqrt(5), generator=generator)
        bound = 1 / sqrt(inputs)
        nn.init.uniform_(bias, -bound, bound, generator=generator)
        parameters.append((weight, bias))
    return parameters


def _block(inputs: int, outputs: int, pool: bool) -> list[nn.Module]:
    """3x3 convolution, (2x2 max pooling), batch norm, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return [*layers, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def small_cnn(input_shape: InputShape, num_classes: int, width: int = 24) -> nn.Module:
    """Four convolutions, about 95,000 parameters at width 24: trains on a CPU in minutes."""
    second, third, fourth = 2 * width, 8 * width // 3, 4 * width
    return nn.Sequential(
        *_block(input_shape[0], width, pool=True),
        *_block(width, second, pool=True),
        *_block(second, third, pool=False),
        *_block(third, fourth, pool=True),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(fourth, num_classes),
    )


class _Residual(nn.Module):
    """Two blocks and a skip connection."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(*_block(width, width, False), *_block(width, width, False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def resnet9(input_shape: InputShape, num_classes: int, width: int = 64) -> nn.Module:
    """The nine-layer residual net of David Page's DAWNBench entry (2018)."""
    return nn.Sequential(
        *_block(input_shape[0], width, pool=False),
        *_block(width, 2 * width, pool=True),
        _Residual(2 * width),
        *_block(2 * width, 4 * width, pool=True),
        *_block(4 * width, 8 * width, pool=True),
        _Residual(8 * width),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(8 * width, num_classes),
    )


def _torchvision_resnet(name: str, input_shape: InputShape, num_classes: int) -> nn.Module:
    """A net of torchvision with the CIFAR stem: a 3x3 convolution, stride 1, no pooling."""
    import torchvision  # slow to import, and needed only here

    model = getattr(torchvision.models, name)(num_classes=num_classes)
    model.conv1 = nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def resnet18(input_shape: InputShape, num_classes: int) -> nn.Module:
    """ResNet-18 (He et al. 2016) with the CIFAR stem."""
    return _torchvision_resnet("resnet18", input_shape, num_classes)


def resnet34(input_shape: InputShape, num_classes: int) -> nn.Module:
    """ResNet-34 (He et al. 2016) with the CIFAR stem."""
    return _torchvision_resnet("resnet34", input_shape, num_classes)


MODELS: dict[str, Callable[..., nn.Module]] = {
    factory.__name__: factory for factory in (mlp, small_cnn, resnet9, resnet18, resnet34)
}
"""Those of images; the first of features too."""


def _find(name: str) -> Callable[..., nn.Module]:
    return lookup(name, {**MODELS, **TOKEN_MODELS}, "model")


_LEAST = (("width", 1), ("depth", 0), ("buckets", 1), ("longest", 1))


def make_model(model: Model, input_shape: InputShape, num_classes: int) -> nn.Module:
    """Builds the model that a spec such as "mlp(width=32)" names, or that a function makes."""
    if not isinstance(model, str):
        return model()
    name, arguments = parse_spec(model)
    return _find(name)(input_shape, num_classes, **arguments)


def is_shipped(make: Callable[[], nn.Module]) -> bool:
    """Whether this is `make_model` of a spec, and so of a model that ships."""
    if not isinstance(make, partial) or make.func is not make_model or not make.args:
        return False
    return isinstance(make.args[0], str)


def is_shipped_mlp(make: Callable[[], nn.Module]) -> bool:
    """Whether this is `make_model` of an "mlp(...)"."""
    return isinstance(make, partial) and is_shipped(make) and is_mlp(make.args[0])


def model_name(model: Model) -> str:
    """What to call it: its spec, or the function's name."""
    return model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)


def is_mlp(model: Model) -> bool:
    """Whether it is known to be a plain ReLU net before it is built."""
    return isinstance(model, str) and parse_spec(model)[0] == "mlp"


def check_model(model: Model, input_shape: InputShape, vocabulary: int | None = 0) -> None:
    """Checks a model without building anything.

    Args:
        model: a spec, or a function.
        input_shape: of a sample.
        vocabulary: see `DatasetInfo`.

    Raises:
        ValueError: unknown model or parameter, a convolutional net on plain features, a model of
            token ids on anything else, or another one on token ids.
    """
    if not isinstance(model, str):
        if isinstance(model, nn.Module) or not callable(model):
            raise ValueError(
                f"a model is a spec or a function that makes one, got {shown(model)}"
                + (", which is made already" if isinstance(model, nn.Module) else "")
            )
        return
    if not model.strip():
        raise ValueError(f"a model is a spec or a function that makes one, got {model!r}")
    name, arguments = parse_spec(model)
    checked_arguments(_find(name), arguments, f"the model {name}")
    for key, least in (*_LEAST, ("tokens", vocabulary or 1)):
        if arguments.get(key, least) < least:
            raise ValueError(f"the model {name}: {key} is at least {least}, got {arguments[key]}")
    kind = "features" if vocabulary == 0 else "token ids"
    if name in TOKEN_MODELS:
        if vocabulary == 0 or len(input_shape) != 1:
            raise ValueError(
                f"{name} needs rows of token ids, this task has {kind} of shape {input_shape}"
            )
    elif name != "mlp" and len(input_shape) != 3:
        raise ValueError(f"{name} needs images, this task has {kind} of shape {input_shape}")
    elif vocabulary:
        raise ValueError(f"{name} needs numbers that measure something, this task has token ids")
