"""One run as one JSON file, finished or failed, named by the hash of its configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec

from dynprune_env.benchmark import masks
from dynprune_env.benchmark.best_epoch import BestEpoch
from dynprune_env.benchmark.fingerprint import Fingerprint
from dynprune_env.benchmark.sweep_files import MOST_SEEDS
from dynprune_env.common.checks import MOST_THREADS, plain, run_seeds, shown, whole
from dynprune_env.common.files import write_text
from dynprune_env.common.registration import without_own_prefix

SCHEMA = 4
"""3 lacks the fingerprint; 2 says company for replica_seeds; 1 lacks it, commit and machine."""
HISTORY = (
    "kept",
    "visits",
    "spent",
    "val_loss",
    "val_accuracy",
    "train_loss",
    "reward",
    "seconds",
    "drift",
    "corrupted",
    "duplicates",
)
FLOATS = frozenset({"averaging", "duplicates", "imbalance", "label_noise", "learning_rate"})
"""The keyword arguments besides budget that are floats in `Settings`, which is slow to import."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers on a given machine.

    Attributes:
        env: Gymnasium id, e.g. "DynPrune-Digits-v0".
        env_kwargs: keyword arguments of the environment, `budget` among them.
        agent: the agent's spec, e.g. "ucb(c=2.0)".
        seed: the seed of `env.reset` and of the agent.
    """

    env: str
    env_kwargs: dict[str, Any]
    agent: str
    seed: int

    def __post_init__(self) -> None:
        """Makes budget=1 and budget=1.0 the same run, numpy's numbers Python's, and ids bare.

        Raises:
            ValueError: there is no budget, or it is no number.
        """
        budget = plain(self.env_kwargs.get("budget"))
        if isinstance(budget, bool) or not isinstance(budget, int | float):
            raise ValueError(f"env_kwargs hold a budget in (0, 1], got {budget!r}")
        kwargs: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else plain(value)  # as JSON gives it
            for name, value in self.env_kwargs.items()
        }
        kwargs |= {name: float(kwargs[name]) for name in FLOATS if type(kwargs.get(name)) is int}
        kwargs["budget"] = float(budget)
        object.__setattr__(self, "env_kwargs", kwargs)
        object.__setattr__(self, "env", without_own_prefix(self.env))

    @property
    def budget(self) -> float:
        """Share of a full run's sample visits that this run may spend, in (0, 1]."""
        return float(self.env_kwargs["budget"])

    @property
    def variant(self) -> str:
        """The env_kwargs other than budget, "key=value, ..." sorted by key, or ""."""
        others = sorted((key, value) for key, value in self.env_kwargs.items() if key != "budget")
        return ", ".join(f"{key}={value}" for key, value in others)

    @property
    def key(self) -> str:
        """Hash of the configuration; the name of the result's file."""
        return _hash(vars(self))

    @property
    def other_keys(self) -> list[str]:
        """The hashes with whole numbers spelled without a point: names that files may have."""
        kwargs = self.env_kwargs
        whole = {
            name: int(value)
            for name, value in kwargs.items()
            if name in FLOATS and isinstance(value, float) and value.is_integer()
        }
        return [
            _hash({**vars(self), "env_kwargs": {**kwargs, **dict(spelled)}})
            for count in range(1, len(whole) + 1)
            for spelled in combinations(whole.items(), count)
        ]


def _hash(config: dict[str, Any]) -> str:
    text = json.dumps(config, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Result:
    """One finished run.

    Attributes:
        config: what was run.
        num_samples: n, the number of train samples.
        epochs: T, the number of epochs of a full run.
        history: one list per name of HISTORY, one entry per epoch: `kept` samples trained,
            cumulative `visits`, `spent` (share of the budget, in [0, 1]), `val_loss` and
            `train_loss` in nats, `val_accuracy` in [0, 1], `reward`, `seconds`; `drift` (one minus
            Spearman's correlation of all losses before and after, 0 in the first epoch) and the
            shares of wrongly labelled (`corrupted`) and of repeated (`duplicates`) samples among
            the kept.
        test_loss: mean loss on the test split, in nats.
        test_accuracy: in [0, 1]; where labels are numbers, R².
        visits: samples trained, counted with repetition.
        scored: samples that were only scored (forward passes); each costs a third of a visit.
        preparation: visits charged for training runs before the episode, in which a rule scored.
        saved: 1 - (visits + scored / 3 + preparation) / (T n): the true saved fraction of a full
            run, negative if it cost more than one.
        seconds: wall-clock shares: `prepare`, `train`, `evaluate`, `select`, `total`; runs
            that shared the replica axis share its seconds in proportion to their visits. What
            a process does once, such as loading compiled loops, comes before.
        diverged: whether a loss became non-finite.
        replicas: how many runs shared the replica axis.
        device: e.g. "cpu", "NVIDIA H200".
        threads: torch's intra-op threads.
        versions: of this package and of the libraries that decide numbers.
        selections: which samples each epoch trained, packed; see `recording`.
        commit: git commit of the package's source checkout, "+" behind it if files had changed;
            None if it is no checkout, or unknown.
        machine: its processor, e.g. "x86_64 AMD EPYC 9654"; None if unknown.
        replica_seeds: the seeds that shared the replica axis, in order: together they give the same
            numbers again, bit for bit on a CPU; None if unknown.
        fingerprint: what decided the numbers besides the configuration; None if unknown.
        best_epoch: where val accuracy was best, and test accuracy there; None if not recorded.
    """

    config: RunConfig
    num_samples: int
    epochs: int
    history: dict[str, list[float]]
    test_loss: float
    test_accuracy: float
    visits: int
    scored: int
    preparation: float
    saved: float
    seconds: dict[str, float]
    diverged: bool
    replicas: int
    device: str
    threads: int
    versions: dict[str, str]
    selections: str
    commit: str | None = None
    machine: str | None = None
    replica_seeds: list[int] | None = None
    fingerprint: Fingerprint | None = None
    best_epoch: BestEpoch | None = None

    def save(self, folder: Path) -> Path:
        """Writes `folder/<key>.json` through a temporary file, so that no reader sees a half."""
        path = folder / f"{self.config.key}.json"
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        content = {"schema": SCHEMA, **own}
        if self.best_epoch is None:
            del content["best_epoch"]
        write_text(path, json.dumps(content, allow_nan=False, default=asdict))
        return path

    @classmethod
    def load(cls, path: Path) -> Result:
        """Reads one result file.

        Raises:
            ValueError: the file is not a result of this schema, or of another name's run.
            FileNotFoundError: there is no such file.
        """
        try:
            content = read_json(path)
            if content.pop("schema", None) not in range(1, SCHEMA + 1):
                raise ValueError(f"its schema is not one of 1 to {SCHEMA}")
            if "company" in content:
                content["replica_seeds"] = content.pop("company")
            if unknown := set(content) - {field.name for field in fields(cls)}:
                raise ValueError(f"it holds {', '.join(sorted(unknown))}, which no result has")
            result = msgspec.convert(content, cls)
            result.check()
            if path.stem not in (result.config.key, *result.config.other_keys):
                raise ValueError(f"the run that it holds belongs into {result.config.key}.json")
        except (ValueError, RecursionError, OverflowError) as error:
            raise ValueError(f"{path} is not a dynprune result file: {error}") from error
        return result

    def check(self) -> None:
        """Checks what types do not say.

        Raises:
            ValueError: the numbers do not fit one another.
        """
        if set(self.history) != set(HISTORY):
            raise ValueError(f"its history has {sorted(self.history)}, not {HISTORY}")
        lengths = {len(values) for values in self.history.values()}
        if len(lengths) > 1 or max(lengths) > self.epochs:
            raise ValueError(f"its history has lists of {sorted(lengths)} of {self.epochs} epochs")
        if not (0 < self.config.budget <= 1 and self.num_samples > 0 and self.epochs > 0):
            raise ValueError("its budget is not in (0, 1], or its n or T not positive")
        if not 0 <= self.test_accuracy <= 1:
            raise ValueError(f"its test accuracy is {self.test_accuracy}, not in [0, 1]")
        whole("its threads", self.threads, 1, MOST_THREADS)
        if self.replica_seeds is not None:
            whole("its number of replica seeds", len(self.replica_seeds), 1, MOST_SEEDS)
            if self.config.seed not in run_seeds(self.replica_seeds):
                seeds = shown(self.replica_seeds)
                raise ValueError(
                    f"its seed {self.config.seed} is none of its replica seeds {seeds}"
                )
        if self.best_epoch is not None:
            self.best_epoch.check(max(lengths))
        masks.check(self.selections, max(lengths), self.num_samples)
        if "total" not in self.seconds:
            raise ValueError("its seconds lack their total")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; numbers in it are finite.

    Raises:
        ValueError: it cannot be read as one; the message says why, without the path.
        FileNotFoundError: there is no such file.
    """
    try:
        content = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        if path.is_symlink():
            raise ValueError("it is a link to nothing") from None
        raise
    except OSError as error:  # a folder, a file that may not be read
        raise ValueError(error.strerror or str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not an object")
    return content


def load_results(
    folders: Iterable[Path], on_foreign: Callable[[str], None] | None = None
) -> Iterator[Result]:
    """Yields the results found in the folders, sorted by file name, each configuration once.

    Args:
        folders: where to look.
        on_foreign: told of each JSON file that is not a result, which is then left out.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: a JSON file is not a result, and there is no `on_foreign`.
    """
    seen: set[str] = set()
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        for path in sorted(folder.glob("*.json")):
            try:
                result = Result.load(path)
            except ValueError as error:
                if on_foreign is None:
                    raise
                on_foreign(str(error))
                continue
            if result.config.key not in seen:
                seen.add(result.config.key)
                yield result


@dataclass(frozen=True)
class Failure:
    """One run that ended with an error, `failed/<key>.json` in the folder of the results.

    Attributes:
        config: what was run.
        error: the error's type, e.g. "RuntimeError".
        message: its text.
        traceback: the last lines of its traceback, or "".
    """

    config: RunConfig
    error: str
    message: str
    traceback: str = ""

    def save(self, folder: Path) -> None:
        """Writes the record."""
        text = json.dumps({"schema": SCHEMA, **asdict(self)})
        write_text(failure_path(folder, self.config), text)


def failure_path(folder: Path, config: RunConfig) -> Path:
    """Where the record of a failed run lies."""
    return folder / "failed" / f"{config.key}.json"


def load_failures(folders: Iterable[Path]) -> list[Failure]:
    """The runs that failed and have no result in any of the folders; foreign files are left out."""
    folders = list(map(Path, folders))
    found: dict[str, Failure] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("failed/*.json"))):
        with suppress(KeyError, ValueError, OSError, RecursionError, OverflowError):
            content = read_json(path)
            del content["schema"]
            failure = msgspec.convert(content, Failure)
            found[failure.config.key] = failure
    done = {path.stem for folder in folders for path in folder.glob("*.json")}
    return [failure for key, failure in sorted(found.items()) if key not in done]
