"""A user's own samples, as tensors or read when they are needed, checked where they come in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from dynprune_env.common.draws import WatchedDraws
from dynprune_env.common.randomness import Purpose, kept_generators, stream_seed
from dynprune_env.tasks.datasets import Split
from dynprune_env.tasks.losses import CLASSES, LABELS, as_targets, kind_of

_LABELS = "labels are (n,) integers, one class per sample"


class Streamed:
    """Inputs of a map-style data set, read when they are needed: stands in for their tensor.

    Args:
        dataset: gives (input, label); picklable where there are workers.
        workers: processes that read ahead; 0 reads in this one.
        ids: (n,) int64, which samples; None for all.
        device: where batches go.
    """

    def __init__(
        self,
        dataset: Any,
        workers: int,
        ids: np.ndarray | None = None,
        device: torch.device | None = None,
    ):
        self.dataset = dataset
        self.workers = workers
        self.ids = np.arange(len(dataset)) if ids is None else ids
        self.device = device or torch.device("cpu")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Tensor) -> Streamed:
        """A selection; nothing is read."""
        return Streamed(self.dataset, self.workers, self.ids[index.cpu().numpy()], self.device)

    def to(self, device: torch.device) -> Streamed:
        """The same, for another device; nothing is read."""
        return Streamed(self.dataset, self.workers, self.ids, device)


def as_inputs(batch: Any) -> Tensor:
    """Arrays or tensors (n, ...) as what the models take.

    Pixels (n, C, H, W) or (n, H, W) stay uint8, all other numbers become float32, integers int64.

    Raises:
        ValueError: these are not numbers, or not in that layout, or not finite as float32, or
            none.
    """
    try:
        inputs = torch.as_tensor(batch, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"inputs are tensors, arrays or images of numbers: {error}") from error
    if inputs.dim() and not len(inputs):
        raise ValueError("there are no samples")
    if not inputs.numel():
        raise ValueError(f"every axis of the inputs has a size, got {tuple(inputs.shape)}")
    if inputs.dim() < 2:
        raise ValueError(f"inputs are (n, ...), at least two axes, got {tuple(inputs.shape)}")
    if inputs.dtype == torch.uint8 and inputs.dim() in (3, 4):
        inputs = inputs[:, None] if inputs.dim() == 3 else inputs
        if inputs.shape[1] > 4 and inputs.shape[3] <= 4:
            raise ValueError(f"images are (n, C, H, W), channels first, got {tuple(inputs.shape)}")
        return inputs
    return _as_features(inputs) if inputs.is_floating_point() else _as_integers(inputs)


def _as_features(inputs: Tensor) -> Tensor:
    """(n, ...) float32."""
    if not inputs.isfinite().all():
        raise ValueError("inputs are finite, got NaN or infinite values")
    features = inputs.float()
    if features is not inputs and not features.isfinite().all():
        largest = inputs.abs().max().item()
        raise ValueError(f"inputs are finite as float32, got {largest:g} in {inputs.dtype}")
    return features


def _as_integers(inputs: Tensor) -> Tensor:
    """(n, ...) int64, or float32 where they are bits or bytes."""
    if inputs.dtype in (torch.uint8, torch.bool):
        return inputs.float()
    if inputs.is_complex():
        raise ValueError("inputs are real numbers, got complex ones")
    return inputs.long()


def as_input(sample: Any) -> Tensor:
    """One sample; a PIL image becomes (C, H, W) uint8."""
    if hasattr(sample, "getbands"):
        pixels = np.array(sample.convert("RGB") if sample.mode == "P" else sample)
        sample = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    array = torch.as_tensor(sample, device="cpu")
    return as_inputs(array[None])[0] if array.dim() else as_inputs(array)


def as_labels(labels: Any, loss: str = "cross_entropy") -> Tensor:
    """(n,) int64 of classes; of what other losses take see `losses.as_targets`.

    Raises:
        ValueError: they are of another shape or type than the loss takes; the message says how to
            convert them.
    """
    try:
        arrays = (Tensor, np.ndarray)
        apart = isinstance(labels, list | tuple) and any(isinstance(y, arrays) for y in labels)
        if apart:
            labels = torch.stack([torch.as_tensor(label, device="cpu") for label in labels])
        table = torch.as_tensor(labels, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"{_LABELS}, got {_kind_of(labels)}: np.unique(labels, return_inverse=True)[1] numbers "
            "the classes of whatever can be sorted"
        ) from error
    kind = LABELS.get(loss) or kind_of(table)
    if kind != CLASSES:
        return as_targets(table, loss, kind)
    if table.dim() == 1 and not table.is_floating_point() and not table.is_complex():
        return table.long()
    raise ValueError(f"{_LABELS}, got {tuple(table.shape)} {table.dtype}{_remedy(table)}")


def _kind_of(labels: Any) -> str:
    """What labels that are no numbers are: their dtype, or the type of the first."""
    if hasattr(labels, "dtype"):
        return f"an array of {labels.dtype}"
    if not hasattr(labels, "__iter__"):
        return type(labels).__name__
    kinds = list(dict.fromkeys(type(label).__name__ for label in labels))[:3]
    return f"{type(labels).__name__} of {', '.join(kinds)}"


def _remedy(table: Tensor) -> str:
    """How to turn them into classes, where that is plain to see."""
    if not table.numel() or table.is_complex():
        return ""
    if table.dim() == 2 and table.shape[1] == 1:
        return ": labels[:, 0] has that shape"
    if table.dim() == 2 and ((table == 0) | (table == 1)).all() and (table.sum(1) == 1).all():
        return ": these are one-hot, labels.argmax(1) are the classes"
    if table.dim() == 2 and ((table == 0) | (table == 1)).all():
        return ": several labels a sample are for a recipe with loss='bce'"
    if table.dim() == 1 and (table == table.round()).all():
        return ": these are whole, convert them with labels.long() or labels.astype(int)"
    if table.is_floating_point() and table.isfinite().all():
        return ": numbers to predict are for a recipe with loss='mse'"
    return ""


@contextmanager
def own_generators() -> Iterator[None]:
    """Puts the global generators back, in the training process; a worker's belong to it alone."""
    with kept_generators() if get_worker_info() is None else nullcontext():
        yield


def drawn(data: Any, i: int, seed: int) -> Any:
    """`data[i]`, whose random transforms draw from this seed; call it under `own_generators`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    with nullcontext() if get_worker_info() else WatchedDraws(seed):
        return data[i]


def read_samples(
    data: Any, ids: Iterable[int], pick: Callable[[Any], Any] = lambda sample: sample
) -> list[Any]:
    """What to `pick` of some samples of a map-style data set, always under the same draws."""
    with own_generators():
        return [pick(drawn(data, i, stream_seed(0, i, Purpose.AUGMENTATION))) for i in ids]


def sampled(inputs: Streamed, count: int = 64) -> Tensor:
    """Evenly spaced ones of streamed inputs, (count or fewer, ...), always under the same draws."""
    places = np.linspace(0, len(inputs) - 1, min(count, len(inputs))).astype(np.int64)
    read = read_samples(inputs.dataset, inputs.ids[places].tolist())
    return torch.stack([as_input(sample) for sample, _ in read])


def is_pair(data: Any) -> bool:
    """Whether data are (inputs, labels), and not a map-style data set."""
    return isinstance(data, tuple | list) and len(data) == 2


def check_map_style(data: Any) -> None:
    """Checks that samples can be read one by one.

    Raises:
        ValueError: they cannot.
    """
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise ValueError(
            "data are (inputs, labels), or a map-style data set with len(data) and "
            f"data[i] = (input, label), got {type(data).__name__}"
        )
    if not len(data):
        raise ValueError("the data set is empty")
    (sample,) = read_samples(data, [0])
    if not is_pair(sample):
        raise ValueError(f"a sample of the data set is (input, label), got {type(sample)}")


def read_split(data: Any, loss: str) -> Split:
    """All samples of (inputs, labels) or of a map-style data set, the labels for a loss.

    Raises:
        ValueError: shapes do not fit each other; see `as_inputs` and `as_labels`.
    """
    if is_pair(data):
        inputs, labels = as_inputs(data[0]), as_labels(data[1], loss)
    else:
        check_map_style(data)
        samples = read_samples(data, range(len(data)))
        parts = [as_input(sample) for sample, _ in samples]
        for i, part in enumerate(parts):
            if (part.shape, part.dtype) != (parts[0].shape, parts[0].dtype):
                raise ValueError(
                    f"all inputs have one shape and type, got {_of(parts[0])} and, "
                    f"at {i}, {_of(part)}"
                )
        inputs = torch.stack(parts)
        labels = as_labels([_label(sample) for sample in samples], loss)
    if len(inputs) != len(labels):
        raise ValueError(f"there are {len(inputs)} inputs, but {len(labels)} labels")
    return Split(inputs, labels)


def _whole(label: Any) -> Any:
    return label.item() if hasattr(label, "item") and getattr(label, "ndim", 0) == 0 else label


def _label(sample: Any) -> Any:
    return _whole(sample[1])


def _of(sample: Tensor) -> str:
    return f"{tuple(sample.shape)} {str(sample.dtype).removeprefix('torch.')}"


def read_labels(data: Any, loss: str) -> Tensor:
    """The labels of a map-style data set for a loss: its `targets`, or one pass over it."""
    check_map_style(data)
    targets = getattr(data, "targets", None)
    if targets is not None and len(targets) == len(data):
        some = np.linspace(0, len(data) - 1, 3, dtype=int).tolist()
        # A transform of the targets would make the labels others.
        read = read_samples(data, some, _label)
        if all(np.array_equal(y, _whole(targets[i])) for y, i in zip(read, some, strict=True)):
            return as_labels(targets, loss)
    return as_labels(read_samples(data, range(len(data)), _label), loss)
