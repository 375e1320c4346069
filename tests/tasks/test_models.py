"""Every model takes its shapes, says what it should, and has the size that its docstring tells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.episodes import make
from torch import nn

from dynprune_env.envs.settings import Settings
from dynprune_env.tasks.models import MODELS, check_model, make_model

IMAGES = [(3, 32, 32), (1, 28, 28)]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mlp", (64,)), *((name, shape) for name in MODELS for shape in IMAGES)],
)
def test_a_model_gives_each_image_its_own_logits(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = make_model(name, shape, 7).eval()
    images = torch.randn(3, *shape)
    with torch.no_grad():
        logits, alone = model(images), model(images[1:2])
    assert logits.shape == (3, 7)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[1:2], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits[0], logits[1])


@pytest.mark.parametrize(
    ("spec", "least", "most"),
    [
        ("mlp", 64 * 3072, 66 * 3072),
        ("small_cnn", 90_000, 100_000),
        ("resnet9", 6.4e6, 6.8e6),
        ("resnet18", 11.1e6, 11.3e6),
        ("resnet34", 21.2e6, 21.4e6),
    ],
)
def test_models_have_their_published_sizes(spec: str, least: float, most: float) -> None:
    assert least <= parameters(make_model(spec, (3, 32, 32), 10)) <= most


@pytest.mark.parametrize(("depth", "count"), [(0, 65 * 10), (2, 65 * 5 + 6 * 5 + 6 * 10)])
def test_an_mlp_is_as_deep_and_wide_as_its_spec_says(depth: int, count: int) -> None:
    model = make_model(f"mlp(width=5, depth={depth})", (64,), 10)
    assert parameters(model) == count
    assert sum(isinstance(module, nn.ReLU) for module in model.modules()) == depth


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_the_cifar_stem_keeps_the_resolution(name: str) -> None:
    model = make_model(name, (3, 32, 32), 10).eval()
    seen = {}
    model.layer1.register_forward_hook(lambda *call: seen.update(first=call[-1].shape))
    model.layer4.register_forward_hook(lambda *call: seen.update(last=call[-1].shape))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert seen == {"first": (1, 64, 32, 32), "last": (1, 512, 4, 4)}


@pytest.mark.parametrize("spec", MODELS)
def test_the_global_generator_decides_the_weights(spec: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(make_model(spec, (3, 32, 32), 10).parameters()).detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model": "resnt18"}, "there are mlp, small_cnn, .* mean 'resnet18'"),
        ({"model": "mlp(size=3)"}, "the model mlp has no parameter 'size'; it has width, depth"),
        ({"model": "resnet18(width=3)", "task": "CIFAR10"}, "no parameter 'width'; it has none"),
        ({"model": "mlp(num_classes=3)"}, "no parameter 'num_classes'"),
        ({"model": "small_cnn"}, r"small_cnn needs images, .* features of shape \(64,\)"),
        ({"model": "mlp(32)"}, r"mlp\(key=value\)"),
        ({"model": "mlp(width=0)"}, "width.*0"),
        ({"model": "mlp(width='wide')"}, "width.*wide"),
        ({"model": "mlp(width=2.5)"}, r"width.*2\.5"),
        ({"model": "mlp(depth=-1)"}, "depth.*-1"),
        ({"model": "small_cnn(width=0)", "task": "CIFAR10"}, "width.*0"),
    ],
)
def test_a_wrong_spec_is_refused_before_anything_is_built(
    settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        Settings(**settings)


@pytest.mark.parametrize("spec", ["mlp", "mlp(width=32)", " mlp ( depth = 2 ) "])
def test_a_right_spec_passes(spec: str) -> None:
    check_model(spec, (64,))
    check_model(spec, (3, 32, 32))


@pytest.mark.parametrize("model", ["mlp(width=8)", "mlp(depth=0)", "small_cnn(width=3)"])
def test_a_model_of_ones_choice_trains_on_augmented_images(
    model: str, pictures: dict[str, Any]
) -> None:
    env = make(**pictures, model=model, epochs=6, budget=1.0)
    env.reset(seed=0)
    terminated = False
    while not terminated:
        *_, terminated, _, _ = env.step([1] * 48)
    assert env.evaluate("test").accuracy >= 0.45  # of four classes
