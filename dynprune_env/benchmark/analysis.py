"""Results for analysis: read from folders, as a table of pandas, and what each run kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynprune_env.benchmark import results as files
from dynprune_env.benchmark.recording import unpack
from dynprune_env.benchmark.results import Result
from dynprune_env.benchmark.tabulated import FinishedRun

if TYPE_CHECKING:  # an extra
    import pandas as pd

NUMBERS = (
    "num_samples",
    "epochs",
    "test_accuracy",
    "test_loss",
    "visits",
    "scored",
    "preparation",
    "saved",
    "diverged",
    "device",
    "threads",
)


class Results(list[Result]):
    """Finished runs, as a list that makes a table of itself."""

    def to_frame(self, history: bool = False) -> pd.DataFrame:
        """See the function `to_frame`."""
        return to_frame(self, history)


def load_results(*folders: str | Path | Iterable[str | Path]) -> Results:
    """The results in some folders, sorted by file name, each configuration once.

    Args:
        *folders: of result files.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: a JSON file is not a result, or no folder is named.
    """
    named: list[Path] = []
    for each in folders:
        named += [Path(each)] if isinstance(each, str | Path) else map(Path, each)
    if not named:
        raise ValueError("load_results takes at least one folder of result files, got none")
    return Results(files.load_results(named))


def to_frame(results: Iterable[Result], history: bool = False) -> pd.DataFrame:
    """A table of pandas (the extra `pandas`), shares in [0, 1], losses in nats.

    Args:
        results: finished runs.
        history: one row per epoch of each run, with the columns of `Result.history`; else one row
            per run, with its numbers.

    Returns:
        First the columns env, variant, agent, budget and seed, last one for each other keyword
        argument of the environments, None where a run did not set it.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install 'dynprune[pandas]'") from error
    rows: list[dict[str, Any]] = []
    for result in results:
        config = result.config
        named = {
            "env": config.env,
            "variant": config.variant,
            "agent": config.agent,
            "budget": config.budget,
            "seed": config.seed,
        }
        if history:
            columns = result.history
            epochs = len(next(iter(columns.values()), ()))
            numbers = [
                {"epoch": epoch + 1, **{name: values[epoch] for name, values in columns.items()}}
                for epoch in range(epochs)
            ]
        else:
            given = asdict(result)
            numbers = [
                {name: given[name] for name in NUMBERS} | {"seconds": result.seconds["total"]}
            ]
        rows += [{**named, **each, **_other(config.env_kwargs, named, each)} for each in numbers]
    return pandas.DataFrame(rows)


def _other(env_kwargs: dict[str, Any], *known: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that have no column yet."""
    return {
        name: value
        for name, value in env_kwargs.items()
        if not any(name in columns for columns in known)
    }


def kept_masks(result: FinishedRun) -> np.ndarray:
    """What each epoch of a run trained: (epochs, n) bool, for the epochs that it played."""
    epochs = len(result.history["spent"])
    return unpack(result.selections, epochs, result.num_samples)
