"""The command that trains a selection policy: train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynprune_agents.cli.options import (
    DataDirOption,
    DeviceOption,
    EnvKwargsOption,
    EnvsOption,
    check_data,
    check_device,
    check_file,
    check_folder,
    parse_env_kwargs,
    parse_lists,
    parse_pairs,
)
from dynprune_agents.cli.terminal import complain, progress_of, say, watched
from dynprune_env.common.pulse import listening
from dynprune_env.common.registration import without_own_prefix
from dynprune_env.common.stopping import Stopped

if TYPE_CHECKING:
    from dynprune_agents.learning.training import Plan, PolicyTrainer


@dataclass(frozen=True)
class TrainingArguments:
    """What decides a training's numbers: a checkpoint belongs to exactly these.

    Where its files lie, how many processes work and how often it is saved change no number, and
    are left out.

    Attributes:
        algo: the algorithm's name, e.g. "es".
        envs: Gymnasium ids to draw from.
        budgets: shares of a full run's visits to draw from, in (0, 1].
        label_noise: shares of train labels redrawn to draw from; None is the task's own.
        vary: keyword arguments of the environment, KEY or TASK:KEY, with the values to draw from.
        env_kwargs: those that all games share.
        observation: the observation's kind; None is what fits the action.
        action: the action's kind; None is what fits the algorithm.
        reward: the reward's name.
        twins: how many training runs share everything but their actions; None is the default.
        relative: how twins are compared; None is what fits the algorithm.
        num_envs: training runs side by side; None is what fits the algorithm.
        steps: environment steps (epochs of training runs) in all.
        seed: of everything.
        settings: parameters of the algorithm.
        start: the policy to go on from, a name or path, or None.
        device: what trains.
    """

    algo: str
    envs: tuple[str, ...]
    budgets: tuple[float, ...]
    label_noise: tuple[float | None, ...]
    vary: dict[str, Sequence[Any]]
    env_kwargs: dict[str, Any]
    observation: str | None
    action: str | None
    reward: str
    twins: int | None
    relative: str | None
    num_envs: int | None
    steps: int
    seed: int
    settings: dict[str, Any]
    start: str | None
    device: str

    def make_trainer(
        self, data_dir: str | None, jobs: int, tensorboard: Path | None
    ) -> PolicyTrainer:
        """A fresh trainer.

        Args:
            data_dir: folder of the data sets, or None.
            jobs: processes.
            tensorboard: folder for TensorBoard, or None.

        Raises:
            ValueError: the arguments do not fit one another.
        """
        from dynprune_agents.learning.mixture import Mixture
        from dynprune_agents.learning.trainers import make_trainer

        mixture = Mixture(
            envs=self.envs,
            budgets=self.budgets,
            label_noise=self.label_noise,
            vary=self.vary,
            env_kwargs={
                **self.env_kwargs,
                "reward": self.reward,
                "device": self.device,
                "data_dir": data_dir,
            },
        )
        return make_trainer(
            self.algo,
            mixture,
            observation=self.observation,
            action=self.action,
            num_envs=self.num_envs,
            steps=self.steps,
            seed=self.seed,
            settings=self.settings,
            start=self.start,
            jobs=jobs,
            tensorboard=tensorboard,
            twins=self.twins,
            relative=self.relative,
        )


def train(
    context: typer.Context,
    algo: Annotated[
        str,
        typer.Option(
            "--algo",
            help="es, cloning, ppo, a2c, sac, td3, dqn; with sb3-contrib trpo, ars, tqc.",
        ),
    ] = "es",
    env: EnvsOption = None,
    budgets: Annotated[
        list[float] | None,
        typer.Option("--budgets", help="A budget in (0, 1], repeatable. [0.1, 0.3, 0.5]"),
    ] = None,
    label_noise: Annotated[
        list[float] | None,
        typer.Option("--label-noise", help="Share of labels redrawn, repeatable. [the task's own]"),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="KEY=[...]",
            help="Values of a keyword argument of the environment to draw from, repeatable; "
            "TASK:KEY=[...] for one task only.",
        ),
    ] = None,
    env_kwargs: EnvKwargsOption = None,
    observation: Annotated[
        str | None,
        typer.Option(
            "--observation",
            help="run, diagnostics, summary or samples. [samples for masks and weights, else run]",
        ),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(
            "--action",
            help="tilts, weighted_tilts, paced_tilts, mask, weights, quantiles, strategy. "
            "[tilts; es: mask; dqn: strategy]",
        ),
    ] = None,
    reward: Annotated[
        str,
        typer.Option(
            "--reward",
            help="val_loss, val_accuracy, ... as in gym.make. Where twins are compared, only shown "
            "in the curve.",
        ),
    ] = "val_accuracy",
    twins: Annotated[
        int | None,
        typer.Option(
            "--twins",
            min=1,
            help="Not for es and cloning: at most so many runs share everything but their "
            "actions. [8]",
        ),
    ] = None,
    relative: Annotated[
        str | None,
        typer.Option(
            "--relative",
            help="Not for es and cloning: the reward at the end is a run's rank among its twins, "
            "or its lead over their mean or over dynamic random: rank, mean, random; none for "
            "--reward in each epoch. [rank; sac, td3, tqc, dqn: random; ars: none]",
        ),
    ] = None,
    envs: Annotated[
        int | None,
        typer.Option(
            "--envs", min=1, help="R, training runs side by side. [32; es: 64; cloning: 4]"
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Environment steps: epochs of training runs.")
    ] = 200_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A parameter of the algorithm, repeatable."
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", help="The policy to go on from, name or path.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="es, cloning: processes.")] = 1,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="The policy's file; one that is there is kept as policy.old1.npz. Not for es and "
            "cloning: one that ends in .zip is a whole model, to go on from in "
            "Stable-Baselines3, and plays only with trust=True.",
        ),
    ] = Path("policy.npz"),
    device: DeviceOption = "auto",
    data_dir: DataDirOption = None,
    checkpoint_every: Annotated[
        float, typer.Option("--checkpoint-every", min=0, help="Seconds; 0 after each update.")
    ] = 20.0,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Folder for TensorBoard.")
    ] = None,
) -> None:
    """Trains a selection policy on a mixture of games.

    Every draw of the mixture takes one value of each repeatable option, and data of its own. A
    training that was stopped goes on from its last checkpoint: run the same command again. Play
    the result with --agent "learned(policy='policy.npz')" (es, cloning) or
    "sb3(policy='policy.npz')".

    Example: dynprune train --algo es --budgets 0.3 --label-noise 0 --label-noise 0.4 --jobs 2
    """
    from dynprune_agents.learning.training import Plan, kept_as
    from dynprune_agents.learning.training import train as train_policy
    from dynprune_agents.policies._files import find_policy, shipped_policies

    files = (find_policy(start),) if start else ()
    check_file(out)
    if str(out) in shipped_policies():
        raise ValueError(f"{out} is the name of a shipped policy: --out {out}.npz, for instance")
    check_device(device)
    if tensorboard:
        check_folder(tensorboard, "--tensorboard")
    arguments = TrainingArguments(
        algo=algo,
        envs=tuple(map(without_own_prefix, env or ["DynPrune-Digits-v0"])),
        budgets=tuple(budgets or [0.1, 0.3, 0.5]),
        label_noise=tuple(label_noise or [None]),
        vary=parse_lists(vary),
        env_kwargs=parse_env_kwargs(env_kwargs, also=("label_noise", "reward", "observation")),
        observation=observation,
        action=action,
        reward=reward,
        twins=twins,
        relative=relative,
        num_envs=envs,
        steps=steps,
        seed=seed,
        settings=parse_pairs(settings, "--set"),
        start=start,
        device=device,
    )
    trainer = arguments.make_trainer(data_dir, jobs, tensorboard)
    draws = trainer.mixture.first_draws()
    check_data([(draw.env, draw.env_kwargs) for draw in draws], data_dir)
    plan = Plan(
        steps,
        out,
        seed=seed,
        arguments=asdict(arguments),
        imports=tuple(context.obj),
        files=files,
        checkpoint_every=checkpoint_every,
        tensorboard=tensorboard,
    )
    kept = kept_as(out)
    _tell_of_checkpoint(plan)
    with progress_of("steps") as progress:
        task = progress.add_task(f"train {algo}", total=steps)

        def show(done: int, metrics: dict[str, float]) -> None:
            lead = f", {100 * metrics['lead']:+.2f} points" if "lead" in metrics else None
            if lead:
                say(f"{done:,} steps: val accuracy{lead} above dynamic random")
            progress.update(task, completed=min(done, steps))

        told = ""

        def name_phase(what: str, share: float) -> None:
            nonlocal told
            phase = what.partition(":")[0]
            if ":" not in what:  # what happens within a phase has shares of its own
                progress.update(task, description=f"train {algo}: {what}, {share:.0%}")
            if phase != told and phase.startswith(("imitation", "cloning")) and not watched():
                say(f"train {algo}: {phase}")
            told = phase

        try:
            with listening(name_phase):
                curve = train_policy(trainer, plan, show)
        except (Stopped, KeyboardInterrupt):
            folder = plan.checkpoints
            then = "the same command goes on from" if folder.exists() else "nothing was saved in"
            complain(f"stopped; {then} {folder}")
            raise typer.Exit(130) from None
    inside = curve.seconds_in_env / max(jobs, 1) / max(curve.seconds, 1e-9)
    say(
        f"{trainer.steps:,} steps in {curve.seconds:.0f} s "
        f"({trainer.steps / max(curve.seconds, 1e-9):,.0f} a second, {inside:.0%} of it in the "
        f"environment), {curve.visits:,} sample visits; "
        f"{curve.seconds_of_evaluations:.0f} s more to evaluate"
    )
    say(f"Policy: {out} · curve: {plan.picture}")
    if kept and kept.exists():
        say(f"{out} was there before: it is kept, with its curve, as {kept}")


def _tell_of_checkpoint(plan: Plan) -> None:
    if (saved := plan.steps_saved()) is not None:
        say(f"goes on from what is saved in {plan.checkpoints}, after {saved:,} steps")
