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
NOTHING = (
    "nothing was recorded in this epoch: call record(indices, logits) after every forward pass; or "
    "the loader gave no batch: drop_last with a batch_size above the number of samples kept"
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
    _check(ids, share, largest_batch, on_shortfall)


def _check(ids: np.ndarray, share: np.ndarray, largest_batch: int, on_shortfall: str) -> None:
    # A loader that drops its last batch may have none to give.
    if not len(ids) and len(share) >= max(1, largest_batch):
        _tell(NOTHING, on_shortfall)
        return
    unique, counts = np.unique(ids, return_counts=True)
    _refuse(unique[~np.isin(unique, share) | (counts > 1)])
    # A loader that drops its last batch leaves out less than one.
    if len(share) - len(ids) > largest_batch:
        counted = f"{len(ids)} of the {len(share)} samples that this epoch handed out were recorded"
        _tell(f"{counted}. Usual causes: {CAUSES}", on_shortfall)


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
    _check(unique, order, largest_batch * len(ids), on_shortfall)
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


def _tell(sentence: str, on_shortfall: str) -> None:
    if on_shortfall == "error":
        raise RuntimeError(sentence)
    # _check, check_share or check_together, exchange, select, and who called that.
    warnings.warn(sentence, stacklevel=6)


def some(ids: Sequence[int] | np.ndarray) -> str:
    """The first few of them, as text."""
    return ", ".join(str(int(i)) for i in ids[:3]) + (", ..." if len(ids) > 3 else "")
