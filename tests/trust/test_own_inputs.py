"""One's own data, models and tasks: what cannot be trained meets one sentence before it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from dynprune_env import Recipe, Task, own_task, register_task
from dynprune_env.tasks import registry

ID = "DynPrune-Given-v0"
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.1)
X = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) % 2
PIXELS = (torch.arange(20 * 3 * 64) % 251).reshape(20, 3, 8, 8).byte()
ONE_HOT = torch.eye(2)[Y]


LINEAR = partial(nn.Linear, 5, 2)


def task(inputs: Any = X, labels: Any = Y, model: Any = LINEAR, **k: Any) -> Task:
    return own_task((inputs, labels), (inputs, labels), model, RECIPE, **k)


def refused(make: Callable[[], Any], *parts: str) -> None:
    """It raises a ValueError of one line that holds these parts."""
    with pytest.raises(ValueError) as caught:
        make()
    text = str(caught.value)
    assert "\n" not in text
    assert all(part in text for part in parts), text


@pytest.fixture
def given() -> Iterator[Callable[[Any], gym.Env]]:
    """Registers a model, or a function that makes a task, and resets its environment."""

    def reset(model: Any, make: Callable[..., Task] = task) -> gym.Env:
        register_task("Given", lambda: make(model=model))
        env = gym.make(ID, budget=1.0)
        env.reset(seed=0)
        return env

    yield reset
    registry._OWN.pop("Given", None)
    registry.TASKS.pop("Given", None)
    gym.registry.pop(ID, None)


# -- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": ""}, "a model is a spec or a function that makes one, got ''"),
        ({"model": None}, "a model is a spec or a function that makes one, got None"),
        ({"model": nn.Linear(5, 2)}, "got Linear(in_features=5, out_features=2, bias=True), which"),
        ({"model": "resnet9"}, "resnet9 needs images"),
        ({"num_classes": 0}, "num_classes is a whole number of at least 2, got 0"),
        ({"num_classes": -1}, "num_classes is a whole number of at least 2, got -1"),
        ({"num_classes": 1}, "num_classes is a whole number of at least 2, got 1"),
        ({"num_classes": 2.0}, "num_classes is a whole number of at least 2, got 2.0"),
        ({"num_classes": True}, "num_classes is a whole number of at least 2, got True"),
        ({"val_size": 0}, "val_size is a whole number of at least 1, got 0"),
        ({"val_size": 2.0}, "val_size is a whole number of at least 1, got 2.0"),
        ({"val_size": 20}, "20 train samples cannot be split into train and val with val_size=20"),
        ({"workers": -1}, "workers is a whole number of at least 0, got -1"),
        ({"workers": 1.0}, "workers is a whole number of at least 0, got 1.0"),
        ({"stream": "yes"}, "stream is True or False, got 'yes'"),
        ({"variant": {"label_noise": 0.1}}, "variant is a Variant, got {'label_noise': 0.1}"),
        ({"mean": (0.5,)}, "mean, std and augmentation are for (n, C, H, W) uint8 images"),
        ({"std": ()}, "mean, std and augmentation are for (n, C, H, W) uint8 images"),
    ],
)
def test_an_argument_of_a_task_of_ones_own_is_checked(
    arguments: dict[str, Any], sentence: str
) -> None:
    refused(lambda: task(**arguments), sentence)


def test_a_recipe_of_a_task_of_ones_own_is_one() -> None:
    refused(lambda: own_task((X, Y), (X, Y), "mlp", {}), "recipe is a Recipe, got {}")  # type: ignore[arg-type]


def test_arguments_may_be_numbers_of_numpy() -> None:
    info = task(num_classes=np.int64(3), val_size=np.uint8(4), workers=np.int32(0)).info
    assert (info.num_classes, info.num_val) == (3, 4)
    assert type(info.num_classes) is type(info.num_val) is int


@pytest.mark.parametrize("name", ["mean", "std"])
def test_pixels_are_normalised_by_one_finite_number_per_channel(name: str) -> None:
    pixels = partial(task, PIXELS, model="mlp(width=2)")
    for wrong in ((), (0.5,), (0.5,) * 4, 0.5, "abc", np.full((3, 1), 0.5)[:2]):
        refused(lambda w=wrong: pixels(**{name: w}), f"{name} is one number per channel, 3 in all")
    least = -0.1 if name == "mean" else 0
    for wrong in (least, np.nan, np.inf, "x", True, None):
        values = (0.5, wrong, 0.5)
        refused(lambda v=values: pixels(**{name: v}), f"{name} is of pixels scaled to [0, 1]")
    refused(lambda: pixels(mean=(127.5,) * 3), "each in [0, 1], got 127.5")


def test_means_may_be_arrays_and_a_missing_one_is_that_of_the_pixels() -> None:
    pixels = partial(task, PIXELS, model="mlp(width=2)")
    found = pixels().info
    for given in (
        (0.25, 0.5, 0.0),
        [0.25, 0.5, 0],
        np.array([0.25, 0.5, 0]),
        torch.tensor([0.25, 0.5, 0]),
    ):
        info = pixels(mean=given).info
        assert info.mean == (0.25, 0.5, 0.0)
        assert info.std == found.std
    assert pixels(std=(1, 1, 1)).info.mean == found.mean


# -- labels -------------------------------------------------------------------------------------

NAMES = ["cat", "dog"] * 10


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        (NAMES, ("got list of str", "np.unique(labels, return_inverse=True)[1]")),
        (np.array(NAMES), ("got an array of <U3", "np.unique(")),
        (np.array([0, 1] * 10, dtype=object), ("got an array of object", "np.unique(")),
        ([None] * 20, ("got list of NoneType",)),
        ([0, "b"] * 10, ("got list of int, str",)),
        (None, ("got NoneType",)),
        (Y.double(), ("got (20,) torch.float64", "labels.long() or labels.astype(int)")),
        ([*Y.tolist()[:19], 1.0], ("got (20,) torch.float32", "labels.long()")),
        (Y + 0.5, ("got (20,) torch.float32",)),
        ([float("nan")] * 20, ("got (20,) torch.float32",)),
        (Y[:, None], ("got (20, 1) torch.int64", "labels[:, 0]")),
        (Y[:, None].numpy().astype(float), ("got (20, 1) torch.float64", "labels[:, 0]")),
        (ONE_HOT, ("got (20, 2) torch.float32", "one-hot, labels.argmax(1)")),
        (ONE_HOT.long(), ("got (20, 2) torch.int64", "one-hot, labels.argmax(1)")),
        (ONE_HOT.bool(), ("got (20, 2) torch.bool", "one-hot, labels.argmax(1)")),
        (torch.stack([Y, Y], 1), ("got (20, 2) torch.int64",)),
        (Y[0], ("got () torch.int64",)),
        (Y + 1j, ("got (20,) torch.complex64",)),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_how_to_convert_them(
    labels: Any, parts: tuple[str, ...]
) -> None:
    start = "train: labels are (n,) integers, one class per sample"
    refused(lambda: task(labels=labels), start, *parts)


def test_how_to_convert_labels_is_right() -> None:
    for labels in (
        np.unique(NAMES, return_inverse=True)[1],
        Y.double().long(),
        Y.numpy().astype(float).astype(int),
        Y[:, None][:, 0],
        ONE_HOT.argmax(1),
        ONE_HOT.bool().byte().argmax(1),
    ):
        assert task(labels=labels).info.read(None, False).train.labels.equal(Y)


class Samples:
    """A map-style data set with labels of any kind."""

    def __init__(self, labels: Any):
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, Any]:
        return X[i], self.labels[i]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("labels", [NAMES, Y.double(), ONE_HOT, Y[:, None], [None] * 20])
def test_labels_of_data_sets_are_checked_alike(labels: Any, stream: bool) -> None:
    data = Samples(labels)
    start = "train: labels are (n,) integers, one class per sample, got"
    refused(lambda: own_task(data, data, "mlp", RECIPE, stream=stream), start)


# -- inputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (np.full((20, 5), 1e39), "inputs are finite as float32, got 1e+39 in torch.float64"),
        (
            np.where(np.arange(100).reshape(20, 5) == 99, -1e300, 0),
            "inputs are finite as float32, got 1e+300",
        ),
        (X / 0, "inputs are finite, got NaN or infinite values"),
        (X[:, :0], "every axis of the inputs has a size, got (20, 0)"),
        (PIXELS[:, :, :0], "every axis of the inputs has a size, got (20, 3, 0, 8)"),
        (X[:0], "there are no samples"),
        ([], "there are no samples"),
        (PIXELS[:0], "there are no samples"),
        (X[:, 0], "inputs are (n, ...), at least two axes, got (20,)"),
        (X + 1j, "inputs are real numbers, got complex ones"),
        ([[2**70] * 5] * 20, "inputs are tensors, arrays or images of numbers"),
        (None, "inputs are tensors, arrays or images of numbers"),
    ],
)
def test_inputs_that_no_model_could_train_on_are_refused(inputs: Any, sentence: str) -> None:
    labels = Y if inputs is None else Y[: len(inputs)]
    refused(lambda: task(inputs, labels), f"train: {sentence}")
    refused(lambda: own_task((X, Y), (inputs, labels), "mlp", RECIPE), f"test: {sentence}")


def test_a_data_set_without_samples_or_numbers_is_refused() -> None:
    for size, sentence in ((0, "the data set is empty"), (20, "every axis of the inputs has a")):
        data = TensorDataset(X[:size, :0], Y[:size])
        for stream in (False, True):
            make = partial(own_task, data, data, "mlp", RECIPE, stream=stream)
            refused(make, f"train: {sentence}")


def test_the_largest_floats_are_inputs_like_any_others() -> None:
    largest = float(np.finfo(np.float32).max)
    inputs = task(np.full((20, 5), largest)).info.read(None, False).train.inputs
    assert inputs.dtype == torch.float32
    assert inputs.isfinite().all()


# -- models -------------------------------------------------------------------------------------


class Net(nn.Module):
    """A linear layer, of whose logits `change` makes something."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Any] = lambda net, logits: logits):
        super().__init__()
        self.layer = nn.Linear(5, 2)
        self.change = change

    def forward(self, x: Tensor) -> Any:
        return self.change(self, self.layer(x))


SHARED = nn.Linear(5, 2)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (lambda: nn.Linear(5, 2).requires_grad_(False), "gives logits without a gradient"),
        (lambda: nn.AdaptiveAvgPool1d(2), "gives logits without a gradient"),
        (partial(Net, lambda net, y: y.detach()), "gives logits without a gradient"),
        (partial(Net, lambda net, y: torch.zeros_like(y)), "gives logits without a gradient"),
        (
            partial(Net, lambda net, y: torch.zeros(2, 2, requires_grad=True) + y.detach()),
            "gives logits without a gradient",
        ),
        (partial(Net, lambda net, y: y.long()), "gives torch.int64 for inputs (2, 5)"),
        (partial(Net, lambda net, y: y.argmax(1)), "gives (2,) for inputs (2, 5)"),
        (partial(Net, lambda net, y: y + 1j), "gives torch.complex64 for inputs (2, 5)"),
        (
            partial(Net, lambda net, y: (y, y) if net.training else y),
            "gives tuple for inputs (2, 5) torch.float32, expected logits (2, 2)",
        ),
        (
            partial(Net, lambda net, y: y if net.training else y[:, :1]),
            "gives (2, 1) for inputs (2, 5) torch.float32, expected logits (2, 2)",
        ),
        (lambda: SHARED, "shares its parameters with the one made before, expected a fresh one"),
        (lambda: nn.Sequential(SHARED, nn.Linear(2, 2)), "shares its parameters"),
        (lambda: 3, "is of type int, expected a torch module"),
        (lambda: 1 / 0, "fails on inputs (2, 5) torch.float32: division by zero"),
        (nn.Linear, "fails on inputs (2, 5) torch.float32: Linear.__init__() missing 2"),
        (lambda: nn.Linear(5, 2).double(), "fails on inputs (2, 5) torch.float32: "),
    ],
)
def test_a_model_that_cannot_be_trained_is_found_at_the_first_reset(
    model: Any, sentence: str, given: Callable[..., gym.Env]
) -> None:
    refused(lambda: given(model), f"the model of Given {sentence}")


@pytest.mark.parametrize(
    "change",
    [
        lambda net, y: y.double(),
        lambda net, y: y.half(),
        lambda net, y: y if net.training else y.detach(),
        lambda net, y: y * float("nan"),
        lambda net, y: y * float("inf"),
    ],
)
def test_floating_point_logits_of_any_kind_are_legal(
    change: Callable[[nn.Module, Tensor], Any], given: Callable[..., gym.Env]
) -> None:
    env = given(partial(Net, change))
    *_, terminated, truncated, info = env.step(np.ones(18, dtype=np.int8))
    assert not truncated
    assert terminated == info["diverged"]
    assert np.isfinite(info["val_loss"])


def test_a_model_with_a_frozen_part_is_legal_and_that_part_stays(
    given: Callable[..., gym.Env],
) -> None:
    def half_frozen() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 4).requires_grad_(False), nn.Tanh(), nn.Linear(4, 2))

    env = given(half_frozen).unwrapped
    learner = env.vector.trainer.learner
    before = learner.module(0).state_dict()
    env.step(np.ones(18, dtype=np.int8))
    after = learner.module(0).state_dict()
    same = {name: before[name].equal(after[name]) for name in before}
    assert same == {"0.weight": True, "0.bias": True, "2.weight": False, "2.bias": False}


def test_trying_a_model_leaves_the_global_generators_as_they_were(
    given: Callable[..., gym.Env],
) -> None:
    state = torch.random.get_rng_state()
    given(lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 2)))
    assert torch.random.get_rng_state().equal(state)


# -- registering --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "my task", "a-b", "é", "1a", 3, None, "Digits"])
def test_the_name_of_a_task_is_checked(name: Any) -> None:
    refused(lambda: register_task(name, task), "name")


@pytest.mark.parametrize("make_task", [None, 3, "task", task()])
def test_what_makes_a_task_is_a_function(make_task: Any) -> None:
    refused(lambda: register_task("Given", make_task), "make_task is a function that makes a Task")


@pytest.mark.parametrize("made", [None, "mlp", (X, Y), RECIPE, Task])
def test_what_makes_no_task_meets_a_sentence_at_the_first_use(
    made: Any, given: Callable[..., gym.Env]
) -> None:
    kind = type(made).__name__
    refused(
        lambda: given(None, make=lambda model: made), f"make_task of Given gives a Task, got {kind}"
    )
