"""What was recorded in an epoch against what it handed out, and what usually lies between them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

CAUSES = (
    "another sampler or loader dealt the samples out again; the loader's length was cached in the "
    "first epoch; batches were skipped, as on a resume. dynprune_env.integrations has adapters; "
    'on_shortfall="warn" goes on'
)
AGAIN = "forget_epoch() begins the epoch anew"


def check_share(
    ids: np.ndarray, share: np.ndarray, largest_batch: int, on_shortfall: str = "error"
) -> None:
    """Checks that one process recorded what it was given, but for a last batch that was dropped.

    Args:
        ids: (V,) int64, recorded.
        share: (k,) int64, handed out.
        largest_batch: that was recorded so far.
        on_shortfall: "error" or "warn".

    Raises:
        RuntimeError: nothing was recorded, much less than was handed out, or something else.
    """
    # A loader that drops its last batch may have none to give.
    if not len(ids) and len(share) >= max(1, largest_batch):
        raise RuntimeError(
            "nothing was recorded in this epoch: call record(indices, logits) after every "
            "forward pass"
        )
    unique, counts = np.unique(ids, return_counts=True)
    _refuse(unique[~np.isin(unique, share) | (counts > 1)])
    # A loader that drops its last batch leaves out less than one.
    if len(share) - len(ids) > largest_batch:
        _tell(len(ids), len(share), on_shortfall)


def check_together(
    ids: list[np.ndarray], order: np.ndarray, largest_batch: int, on_shortfall: str = "error"
) -> None:
    """The same for shares that a framework dealt out, which may repeat samples to fill batches.

    Args:
        ids: of each process, (V,) int64, recorded.
        order: (k,) int64, handed out to all together.
        largest_batch: that was recorded so far.
        on_shortfall: "error" or "warn".

    Raises:
        RuntimeError: see `check_share`; or the processes trained the same samples.
    """
    together = np.concatenate(ids)
    unique = np.unique(together)
    check_share(unique, order, largest_batch * len(ids), on_shortfall)
    if len(together) - len(order) > largest_batch * len(ids):
        raise RuntimeError(
            f"the processes recorded {len(together)} samples of an epoch of {len(order)}: no "
            'framework dealt them out; leave out shares="framework"'
        )


def _refuse(strange: np.ndarray) -> None:
    if len(strange):
        raise RuntimeError(
            f"samples {some(strange)} were recorded, but this epoch does not hand them "
            f"out, or only once: record the indices that Indexed(dataset) gives; {AGAIN}"
        )


def _tell(recorded: int, handed_out: int, on_shortfall: str) -> None:
    sentence = (
        f"{recorded} of the {handed_out} samples that this epoch handed out were recorded. "
        f"Usual causes: {CAUSES}"
    )
    if on_shortfall == "error":
        raise RuntimeError(sentence)
    warnings.warn(sentence, stacklevel=6)


def some(ids: Sequence[int] | np.ndarray) -> str:
    """The first few of them, as text."""
    return ", ".join(str(int(i)) for i in ids[:3]) + (", ..." if len(ids) > 3 else "")
