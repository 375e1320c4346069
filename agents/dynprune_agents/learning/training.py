"""The loop that every trainer of policies shares: progress, evaluation, checkpoints, the curve."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from filecmp import cmp
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any, Protocol

import numpy as np
from filelock import FileLock, Timeout

from dynprune_agents._agent import Agent
from dynprune_agents.baselines.dynamic_random import DynamicRandom
from dynprune_agents.learning.mixture import FIRST_SEED, Mixture
from dynprune_env.benchmark.episodes import run_episodes
from dynprune_env.benchmark.fingerprint import Fingerprint, differences
from dynprune_env.benchmark.identity import fingerprint
from dynprune_env.common.files import atomic_write, write_text
from dynprune_env.common.palette import BLUE, INK, LINE, PALE
from dynprune_env.common.provenance import versions
from dynprune_env.common.sources import hash_file
from dynprune_env.common.stopping import Stopped, stoppable

EVALUATION_DRAWS = 24
EVALUATION_SEEDS = 4
CURVE = (".curve.json", ".curve.png")
"""The endings of a curve's files, which lie beside the policy's."""

PICTURE_EVERY = 10.0
"""Seconds from one picture of the curve to the next while training goes on: each takes a second."""


class PolicyTrainer(Protocol):
    """Improves a policy, update by update.

    Attributes:
        steps: environment steps (epochs of training runs) done so far, over all replicas.
        visits: sample visits spent so far.
        seconds_in_env: wall-clock seconds of these steps, over all processes.
        between: to be called within an update wherever the state is whole; it may save that, and
            raise `Stopped`.
    """

    between: Callable[[], None]
    mixture: Mixture
    steps: int
    visits: int
    seconds_in_env: float

    def advance(self) -> dict[str, float]:
        """Makes one update; returns what to log, `return` (mean of the episodes) among it."""

    def agent(self) -> Agent:
        """The policy as it is now, ready to play in a benchmark."""

    def save(self, path: Path) -> None:
        """Writes the finished policy."""

    def save_checkpoint(self, folder: Path) -> None:
        """Writes into an empty folder everything that the next update depends on."""

    def load_checkpoint(self, folder: Path) -> None:
        """Goes on from there: the next updates are those of an undisturbed training."""


@dataclass
class Curve:
    """What a training went through.

    Attributes:
        updates: one dict per update: `steps`, `seconds` and whatever the trainer logs.
        evaluations: one dict per evaluation, the first of the untrained policy: `steps`, `lead`
            over dynamic random in val accuracy and its standard `error`. All are of the same runs:
            a lead that the untrained policy has, too, was not learned.
        visits: sample visits spent in training.
        seconds: wall-clock seconds of training, evaluations left out.
        seconds_in_env: of these, spent in environment steps (summed over processes).
        seconds_of_evaluations: wall-clock seconds of the evaluations.
    """

    updates: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    visits: int = 0
    seconds: float = 0.0
    seconds_in_env: float = 0.0
    seconds_of_evaluations: float = 0.0


class PolicyEvaluation:
    """Plays a policy against dynamic random on draws that training never meets.

    Their data and run seeds lie below FIRST_SEED and above those of benchmarks; only val accuracy
    is read.
    """

    def __init__(self, mixture: Mixture, seed: int):
        rng = np.random.default_rng([seed, 3])
        draws = [mixture.draw(rng) for _ in range(EVALUATION_DRAWS)]
        self._draws = [
            (draw.env, draw.env_kwargs | {"data_seed": FIRST_SEED - 1 - index})
            for index, draw in enumerate(draws)
        ]
        first = FIRST_SEED // 2
        self._seeds = range(first, first + EVALUATION_SEEDS)
        self._random: np.ndarray | None = None

    def lead(self, agent: Agent) -> tuple[float, float]:
        """Mean difference in final val accuracy, in [-1, 1], and its standard error."""
        if self._random is None:
            self._random = self._accuracies(DynamicRandom())
        lead = self._accuracies(agent) - self._random
        return float(lead.mean()), float(lead.std(ddof=1) / np.sqrt(lead.size))

    def _accuracies(self, agent: Agent) -> np.ndarray:
        found = []
        for env, kwargs in self._draws:
            own = {k: v for k, v in kwargs.items() if k not in ("observation", "action")}
            where = {"device": own.pop("device", "auto"), "data_dir": own.pop("data_dir", None)}
            for result in run_episodes(env, agent, self._seeds, env_kwargs=own, **where):
                # Of runs that had diverged before they began there is none: all was wrong.
                found.append((result.history["val_accuracy"] or [0.0])[-1])
        return np.array(found)


@dataclass(frozen=True)
class Plan:
    """How long to train, and what to leave behind.

    Attributes:
        steps: environment steps.
        out: the policy's file; the curve (.json, .png) and the checkpoints lie beside it.
        seed: of the evaluation's draws.
        arguments: what was asked for; a checkpoint of other arguments is refused.
        imports: modules that were imported because they register tasks.
        files: whose bytes decide what comes out, such as the policy to go on from.
        evaluate_every: share of the steps between evaluations.
        checkpoint_every: seconds between checkpoints; 0 after every update.
        tensorboard: folder for TensorBoard, which must be installed; None for none.
    """

    steps: int
    out: Path
    seed: int = 0
    arguments: dict[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    evaluate_every: float = 0.1
    checkpoint_every: float = 20.0
    tensorboard: Path | None = None

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return beside(self.out, ".checkpoints")

    def steps_saved(self) -> int | None:
        """Environment steps up to the newest checkpoint, None if there is none."""
        found = _complete(self.checkpoints)
        return int(found[-1].name.partition(".")[0]) if found else None

    @property
    def picture(self) -> Path:
        """The picture of the curve."""
        return beside(self.out, CURVE[1])


def beside(out: Path, ending: str) -> Path:
    """The file beside a policy's: "p.npz" and "p.zip" lose their ending, "lr0.1" keeps its own."""
    return out.with_name(out.name.removesuffix(_ending(out)) + ending)


def kept_as(out: Path) -> Path | None:
    """Where a training keeps the finished policy that it will replace: p.old1.npz, p.old2.npz, ...

    Returns:
        A path that is free, as are those of its curve, or holds the same policy already. None if
        there is no policy at `out`.
    """
    for number in count(1) if out.exists() else ():
        kept = beside(out, f".old{number}{_ending(out)}")
        if kept.exists():
            if cmp(kept, out, shallow=False):
                return kept
        elif not any(beside(kept, ending).exists() for ending in CURVE):
            return kept
    return None


def _ending(out: Path) -> str:
    return out.suffix if out.suffix in (".npz", ".zip") else ""


def _keep(out: Path) -> list[Path]:
    """Copies a finished policy and its curve, and tells what it copied."""
    kept, copies = kept_as(out), []
    if kept is not None and not kept.exists():
        pairs = [(beside(out, ending), beside(kept, ending)) for ending in CURVE]
        for old, copy in [(out, kept), *pairs]:
            if old.exists():
                copies.append(Path(shutil.copy2(old, copy)))
    return copies


def train(
    trainer: PolicyTrainer,
    plan: Plan,
    on_update: Callable[[int, dict[str, float]], None] = lambda steps, metrics: None,
) -> Curve:
    """Trains until `plan.steps`; goes on from the newest checkpoint beside `plan.out`.

    A policy that lies at `plan.out` stays there until this one is finished, and is kept with its
    curve, see `kept_as`, unless both are the same.

    Args:
        trainer: a fresh one, made from the plan's arguments.
        plan: how long, and what to leave behind.
        on_update: called with the steps done and what was logged, after every update, and with
            0 steps and the lead of the untrained policy before the first.

    Returns:
        What happened; it lies beside `out` with the ending .curve.json as well.

    Raises:
        ValueError: the checkpoint belongs to a training with other arguments, or other code,
            data, libraries or files made it; or the policy cannot be written as a file; or another
            training of it goes on; or TensorBoard is asked for and not installed.
        Stopped: by Ctrl-C or SIGTERM; the same call goes on from the checkpoint.
    """
    with _alone(plan.out):
        return _train(trainer, plan, on_update)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps a second training from the same files, for as long as this one goes on.

    Raises:
        ValueError: there is another one.
    """
    lock = FileLock(beside(out, ".lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"another training that will write {out} is under way: take another --out, or wait"
        ) from None
    except NotImplementedError:  # a file system without locks
        yield
        return
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _train(
    trainer: PolicyTrainer, plan: Plan, on_update: Callable[[int, dict[str, float]], None]
) -> Curve:
    checkpoints = _Checkpoints(plan, trainer.mixture)
    curve = checkpoints.load(trainer)
    with TemporaryDirectory() as folder:  # what no file can hold is refused before it trains
        trainer.save(Path(folder) / plan.out.name)
    copies = _keep(plan.out)
    evaluations = _Evaluations(plan, trainer, curve)
    stop, start = Event(), time.perf_counter()

    def keep() -> None:
        nonlocal start
        now = time.perf_counter()
        curve.seconds, start = curve.seconds + now - start, now
        checkpoints.save_if_due(trainer, curve, stop.is_set())
        if stop.is_set():
            raise Stopped

    trainer.between = keep
    when = "once what is under way is saved"
    with _tensorboard(plan.tensorboard) as log, stoppable(stop.is_set, stop.set, when):
        if not curve.evaluations:
            on_update(trainer.steps, evaluations.add())
        while trainer.steps < plan.steps:
            start = time.perf_counter()
            metrics = trainer.advance()
            curve.seconds += time.perf_counter() - start
            curve.visits, curve.seconds_in_env = trainer.visits, trainer.seconds_in_env
            curve.updates.append({"steps": trainer.steps, "seconds": curve.seconds, **metrics})
            if evaluations.due():
                metrics |= evaluations.add()
            for name, value in metrics.items():
                log(name, value, trainer.steps)
            checkpoints.save_if_due(trainer, curve, stop.is_set())
            on_update(trainer.steps, metrics)
            if stop.is_set() and trainer.steps < plan.steps:
                raise Stopped
    copies += _keep(plan.out)  # what something else may have written meanwhile
    trainer.save(plan.out)
    write_text(beside(plan.out, CURVE[0]), json.dumps(asdict(curve)))
    plot_curve(curve.updates, curve.evaluations, plan.picture)
    if copies and cmp(copies[0], plan.out, shallow=False):  # the same training again
        for copy in copies:
            copy.unlink()
    checkpoints.remove()
    return curve


class _Evaluations:
    """Those of one training, in its curve."""

    def __init__(self, plan: Plan, trainer: PolicyTrainer, curve: Curve):
        self._plan, self._trainer, self._curve = plan, trainer, curve
        self._evaluation = PolicyEvaluation(trainer.mixture, plan.seed)
        self._pictured = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for the next."""
        due = len(self._curve.evaluations) * self._plan.evaluate_every * self._plan.steps
        return self._trainer.steps >= min(due, self._plan.steps)

    def add(self) -> dict[str, float]:
        """Evaluates the policy as it is now; returns what to log."""
        start, curve = time.perf_counter(), self._curve
        lead, error = self._evaluation.lead(self._trainer.agent())
        curve.evaluations.append({"steps": self._trainer.steps, "lead": lead, "error": error})
        if curve.updates and time.monotonic() - self._pictured >= PICTURE_EVERY:
            plot_curve(curve.updates, curve.evaluations, self._plan.picture)
            self._pictured = time.monotonic()
        curve.seconds_of_evaluations += time.perf_counter() - start
        return {"lead": lead}


class _Checkpoints:
    """Folders beside the policy's file, one per checkpoint, complete or absent."""

    def __init__(self, plan: Plan, mixture: Mixture):
        self.plan = plan
        self.folder = plan.checkpoints
        self._saved = time.monotonic()
        files = {path.name: hash_file(path) for path in plan.files}
        self.made_by = {
            draw.env: replace(fingerprint(draw.settings(), (), plan.imports), policy=files)
            for draw in mixture.first_draws()
        }

    def load(self, trainer: PolicyTrainer) -> Curve:
        """Puts the trainer where the newest checkpoint is; an empty curve if there is none."""
        found = _complete(self.folder)
        if not found:
            return Curve()
        kept = json.loads((found[-1] / "training.json").read_text(encoding="utf-8"))
        now = json.loads(json.dumps(self.plan.arguments))
        if kept["arguments"] != now:
            others = [
                f"{name}: {kept['arguments'].get(name)!r} there, {now.get(name)!r} now"
                for name in {**kept["arguments"], **now}
                if kept["arguments"].get(name) != now.get(name)
            ]
            raise ValueError(
                f"{self.folder} holds a training with other arguments ({'; '.join(others)}): "
                "take another --out, or delete that folder"
            )
        if changed := self._changed(kept):
            raise ValueError(
                f"{self.folder} holds a training that cannot go on, since what made it is another "
                f"now ({', '.join(changed)}): take another --out, or delete that folder"
            )
        trainer.load_checkpoint(found[-1])
        return Curve(**kept["curve"])

    def _changed(self, kept: dict[str, Any]) -> list[str]:
        """What is another now than when the checkpoint was written."""
        changed = []
        for env, now in self.made_by.items():
            recorded = kept.get("made_by", {}).get(env)
            old = Fingerprint(**recorded) if recorded else None
            changed += [each.what for each in differences(old, now)]
        if kept.get("versions") != dict(versions()):
            changed.append("the libraries")
        return list(dict.fromkeys(changed))

    def save_if_due(self, trainer: PolicyTrainer, curve: Curve, stopping: bool) -> None:
        """Writes a new one if it is time to, or the training is to stop."""
        if stopping or time.monotonic() - self._saved >= self.plan.checkpoint_every:
            self.save(trainer, curve)
            self._saved = time.monotonic()

    def save(self, trainer: PolicyTrainer, curve: Curve) -> None:
        """Writes a new one, then removes the older."""
        older = list(self.folder.glob("*"))
        temporary = self.folder / f".{trainer.steps:012d}.partial"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        trainer.save_checkpoint(temporary)
        content = {
            "arguments": self.plan.arguments,
            "made_by": {env: asdict(made_by) for env, made_by in self.made_by.items()},
            "versions": dict(versions()),
            "curve": asdict(curve),
        }
        (temporary / "training.json").write_text(json.dumps(content), encoding="utf-8")
        name = f"{trainer.steps:012d}"
        same = sorted(path.name for path in self.folder.glob(f"{name}*"))
        if same:  # no step was counted since: within an update
            name += f".{int(same[-1].partition('.')[2] or 0) + 1:06d}"
        temporary.rename(self.folder / name)
        for path in older:
            shutil.rmtree(path)

    def remove(self) -> None:
        """Once the policy is written."""
        if self.folder.exists():
            shutil.rmtree(self.folder)


def _complete(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest last."""
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir())


@contextmanager
def _tensorboard(folder: Path | None) -> Iterator[Callable[[str, float, int], None]]:
    """A function that logs one number.

    Raises:
        ValueError: TensorBoard is not installed.
    """
    if folder is None:
        yield lambda name, value, step: None
        return
    if find_spec("tensorboard") is None:
        raise ValueError("TensorBoard is not here: pip install tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        yield lambda name, value, step: writer.add_scalar(f"train/{name}", value, step)


def plot_curve(
    updates: Sequence[dict[str, float]], evaluations: Sequence[dict[str, float]], path: Path
) -> None:
    """Writes a PNG.

    Args:
        updates: dicts with `steps` and `return`.
        evaluations: dicts with `steps`, `lead` and `error` (shares of val accuracy).
        path: where to.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = np.array([update["steps"] for update in updates], dtype=float)
    returns = np.array([update["return"] for update in updates], dtype=float)
    left.plot(steps, returns, color=LINE, linewidth=0.8, label="each update")
    width = max(1, len(returns) // 20)
    if len(returns) > width:
        smooth = np.convolve(returns, np.ones(width) / width, "valid")
        left.plot(steps[width - 1 :], smooth, color=BLUE, label=f"mean of {width}")
    left.set_ylabel("return of an episode\n(what the environment pays)")
    left.legend(frameon=False)
    right.axhline(0, color=INK, linewidth=0.8)
    right.errorbar(
        [point["steps"] for point in evaluations],
        [100 * point["lead"] for point in evaluations],
        yerr=[196 * point["error"] for point in evaluations],
        color=BLUE,
        marker="o",
        markersize=4,
        capsize=2,
    )
    right.set_ylabel("val accuracy above dynamic random\n(points, 95 % interval)")
    for axes in (left, right):
        axes.set_xlabel("environment steps")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 150k: longer labels would overlap
        axes.grid(color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
