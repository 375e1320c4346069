"""The dynprune command."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import typer
from rich import box
from rich.table import Table
from rich.text import Text

import dynprune_agents
from dynprune_agents.cli.terminal import SweepProgress, complain, console, progress_of
from dynprune_env.benchmark.results import Failure, Result, load_failures, load_results
from dynprune_env.common.files import atomic_write
from dynprune_env.common.registration import import_all
from dynprune_env.common.specs import literal
from dynprune_env.report import summary as report

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
VARIANTS = (
    "dynamic_random(replacement=False)",
    "learned(policy='weighted')",
    "learned(policy='robust')",
)
"""What a benchmark of all agents plays besides their defaults."""

EnvOption = Annotated[str, typer.Option("--env", help="Environment id; see `dynprune envs`.")]
KwargsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--env-kwargs",
        metavar="KEY=VALUE",
        help="Keyword argument of the environment, repeatable, e.g. epochs=10.",
    ),
]
NoiseOption = Annotated[
    float | None, typer.Option("--label-noise", help="Share of train labels redrawn, in [0, 1].")
]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="How many seeds.")]
SeedOption = Annotated[int, typer.Option("--seed", help="The first seed.")]
OutOption = Annotated[
    Path, typer.Option("--out", help="Folder of the results, one JSON file per finished run.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
DataOption = Annotated[
    str | None, typer.Option("--data-dir", help="Folder of CIFAR and Fashion-MNIST.")
]


@app.callback()
def before(
    context: typer.Context,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="A module that registers tasks of your own, repeatable; before the command.",
        ),
    ] = None,
) -> None:
    """Dynamic data pruning as a game: steps are epochs, actions say which samples they visit.

    Start with `dynprune bench`: it plays all agents on the embedded Digits data, in under two
    minutes, and leaves tables, a picture and a page of plots in results/.
    """
    context.obj = imports or []
    if imports:
        from joblib import parallel_config

        import_all(imports)
        # For the workers of `train`; those of `bench` import them with their first run.
        context.with_resource(parallel_config("loky", initializer=import_all, initargs=(imports,)))


@app.command()
def envs() -> None:
    """Lists the environments."""
    from dynprune_env.tasks.models import model_name
    from dynprune_env.tasks.registry import find_task, task_names

    table = Table(title="Environments")  # 80 columns wide
    for header in ("id", "samples", "classes", "model", "epochs"):
        table.add_column(header, no_wrap=True)
    for name in task_names():
        task = find_task(name)
        table.add_row(
            f"DynPrune-{name}-v0",
            f"{task.variant.num_samples(task.info):,}",
            str(task.info.num_classes),
            model_name(task.model),
            str(task.recipe.epochs),
        )
    console.print(table)
    console.print('Make one with gym.make("dynprune_env:DynPrune-Digits-v0", budget=0.3).')


@app.command()
def agents() -> None:
    """Lists the agents with their parameters."""
    table = Table("agent", "what it keeps", "parameters and defaults", title="Agents")
    for name in dynprune_agents.names():
        agent = dynprune_agents.make(name)
        parameters = ", ".join(f"{key}={value!r}" for key, value in vars(agent).items())
        table.add_row(name, dynprune_agents.describe(name), parameters)
    console.print(table)
    console.print('Name one with its parameters: --agent "ucb(c=2.0)"; or your own: module:Class.')


@app.command()
def run(
    env: EnvOption = "DynPrune-Digits-v0",
    agent: Annotated[
        str, typer.Option("--agent", help='An agent\'s spec, e.g. ucb or "ucb(c=2.0)".')
    ] = "dynamic_random",
    budget: Annotated[
        float, typer.Option("--budget", help="Share of a full run's sample visits, in (0, 1].")
    ] = 0.5,
    seeds: SeedsOption = 1,
    seed: SeedOption = 0,
    env_kwargs: KwargsOption = None,
    label_noise: NoiseOption = None,
    out: OutOption = Path("results"),
    device: DeviceOption = "auto",
    data_dir: DataOption = None,
) -> None:
    """Plays one agent and prints what came out.

    Example: dynprune run --env DynPrune-Digits-v0 --agent "ucb(c=2.0)" --budget 0.3 --seeds 5
    """
    from dynprune_env.benchmark.episodes import run_episodes
    from dynprune_env.benchmark.sweeps import plan_groups

    player = dynprune_agents.make(agent)
    kwargs = _env_kwargs(env_kwargs, label_noise)
    everything = plan_groups(env, [repr(player)], [budget], range(seed, seed + seeds), kwargs)
    wanted = (repr(player), budget)  # without the reference that a benchmark adds
    groups = [group for group in everything if (group.agent, group.env_kwargs["budget"]) == wanted]
    _check_folder(out)  # before any work that could be lost
    results = []
    with progress_of("epochs") as progress:
        for group in groups:
            label = f"seed {', '.join(map(str, group.seeds))}"
            task = progress.add_task(label if len(label) < 40 else f"{len(group.seeds)} seeds")
            progress.update(task, total=1.0)
            results += run_episodes(
                env,
                player,
                group.seeds,
                env_kwargs=group.env_kwargs,
                device=device,
                data_dir=data_dir,
                on_epoch=lambda done, task=task: progress.update(  # type: ignore[misc]
                    task, completed=float(done.mean())
                ),
            )
            for result in results[-len(group.seeds) :]:
                result.save(out)
    report.print_table(report.summarize(results), console)
    console.print(f"Results: {out}/*.json")


@app.command()
def bench(
    context: typer.Context,
    sweep: Annotated[
        str,
        typer.Argument(
            metavar="[NAME|FILE.toml]",
            help="A sweep that ships with the package, or a file that describes one; options "
            "replace what it says. See `dynprune sweeps`.",
        ),
    ] = "quick",
    env: Annotated[
        list[str] | None,
        typer.Option("--env", help="Environment id, repeatable. [DynPrune-Digits-v0]"),
    ] = None,
    agents: Annotated[
        list[str] | None,
        typer.Option("--agents", help="An agent's spec, repeatable. [all agents]"),
    ] = None,
    budgets: Annotated[
        list[float] | None,
        typer.Option("--budgets", help="A budget in (0, 1], repeatable. [0.3, 0.5, 0.7]"),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="How many seeds. [the sweep's: 10]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="The first seed. [the sweep's: 0]")
    ] = None,
    scale: Annotated[
        float,
        typer.Option(
            "--scale", help="Share of the epochs and seeds, in (0, 1]; below 0.5 a smaller model."
        ),
    ] = 1.0,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Processes.", show_default="all processors")
    ] = os.cpu_count() or 1,
    backend: Annotated[
        str, typer.Option("--backend", help="loky: this machine; ray: a Ray cluster.")
    ] = "loky",
    gpus: Annotated[
        float, typer.Option("--gpus", min=0, help="GPUs that Ray reserves for each process.")
    ] = 0.0,
    save_every: Annotated[
        float,
        typer.Option("--save-every", min=0, help="Seconds between savings of a long run's state."),
    ] = 30.0,
    env_kwargs: KwargsOption = None,
    label_noise: NoiseOption = None,
    out: OutOption = Path("results"),
    device: DeviceOption = "auto",
    data_dir: DataOption = None,
) -> None:
    """Plays several agents at several budgets, and full data as the reference.

    Without arguments: Digits, all agents, budgets 0.3, 0.5 and 0.7, ten seeds. A run whose result
    is in the folder already is not repeated, and a long one goes on from its last saved epoch: a
    benchmark that was stopped goes on where it was. Runs that failed are tried again.

    Example: dynprune bench --agents ucb --agents dynamic_random --budgets 0.1 --seeds 20
    """
    from dynprune_env.benchmark.runner import run_sweep
    from dynprune_env.benchmark.sweeps import load_sweep

    _check_folder(out)
    plan = load_sweep(sweep)
    if env:
        plan = replace(plan, envs=tuple(env))
    if seeds or seed is not None:
        first = plan.seeds[0] if seed is None else seed
        plan = replace(plan, seeds=tuple(range(first, first + (seeds or len(plan.seeds)))))
    plan = replace(plan, budgets=tuple(budgets or plan.budgets))
    plan = plan.scaled(scale).with_kwargs(_env_kwargs(env_kwargs, label_noise))
    specs = agents or plan.agents or [*dynprune_agents.names(), *VARIANTS]
    groups = plan.groups(list(dict.fromkeys(repr(dynprune_agents.make(spec)) for spec in specs)))
    failures = 0
    with SweepProgress(groups) as progress:
        outcomes = run_sweep(
            groups,
            dynprune_agents.make,
            out,
            jobs=jobs,
            backend=backend,
            gpus=gpus,
            device=device,
            data_dir=data_dir,
            save_every=save_every,
            on_start=progress.start_group,
            imports=context.obj,
        )
        try:
            for outcome in outcomes:
                progress.end_group(outcome)
                if outcome.error:
                    failures += 1
                    name = f"{outcome.group.agent} at budget {outcome.group.env_kwargs['budget']}"
                    complain(f"failed: {name}: {outcome.error}")
        except KeyboardInterrupt:
            complain(f"stopped; the same command goes on from what is saved in {out}")
            raise typer.Exit(130) from None

    wanted = {config.key for group in groups for config in group.configs()}
    foreign: list[str] = []
    results = [r for r in load_results([out], foreign.append) if r.config.key in wanted]
    failed = [each for each in load_failures([out]) if each.config.key in wanted]
    _complain_of_foreign(foreign)
    if results:
        _report(results, failed, out)
    if failures:
        complain(
            f"{failures} of {len(groups)} groups of runs failed; see above, and {out}/failed/."
        )
    if failures or foreign:
        raise typer.Exit(1)


@app.command()
def sweeps() -> None:
    """Lists the sweeps that ship with the package."""
    from dynprune_env.benchmark.sweeps import load_sweep, names

    table = Table("sweep", "what it plays", "budgets", "seeds", title="Sweeps")
    for name in names():
        sweep = load_sweep(name)
        budgets = ", ".join(f"{budget:g}" for budget in sweep.budgets)
        table.add_row(name, sweep.description, budgets, str(len(sweep.seeds)))
    console.print(table)
    console.print("Play one with `dynprune bench NAME`, or describe your own in a TOML file.")


@app.command("report")
def report_command(
    folders: Annotated[list[Path], typer.Argument(help="Folders of result files.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the tables and the page. [the first folder]"),
    ] = None,
) -> None:
    """Prints the tables and writes the page of results that exist already; runs nothing."""
    foreign: list[str] = []
    results = _load(folders, foreign)
    _complain_of_foreign(foreign)
    _report(results, load_failures(folders), out or folders[0])
    if foreign:
        raise typer.Exit(1)


def _load(folders: list[Path], foreign: list[str] | None = None) -> list[Result]:
    """The results in some folders, at least one; others than results go into `foreign`."""
    results = list(load_results(folders, None if foreign is None else foreign.append))
    if not results and foreign:
        raise ValueError(foreign[0])
    if not results:
        raise ValueError(f"no result files in {', '.join(map(str, folders))}")
    return results


def _complain_of_foreign(foreign: list[str]) -> None:
    for message in foreign:
        complain(f"left out: {message}")


@app.command()
def validate(
    folders: Annotated[list[Path], typer.Argument(help="Folders of result files.")],
    runs: Annotated[int, typer.Option("--runs", min=1, help="How many, drawn at random.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Draws the runs.")] = 0,
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", help="A run's file name without .json, repeatable. [drawn]"),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", min=0, help="Of accuracy and saved fraction, elsewhere."),
    ] = 0.02,
    device: DeviceOption = "auto",
    data_dir: DataOption = None,
) -> None:
    """Replays runs from their configurations alone and says whether the numbers match.

    On the machine that made a result, with the same libraries and on its CPU, all numbers but the
    seconds have to be the same, bit for bit. Elsewhere roundings differ and training amplifies
    them: test accuracy and saved fraction then have to be within the tolerance.
    """
    from dynprune_env.benchmark.replay import validate as replay

    results = {result.config.key: result for result in _load(folders)}
    for key in keys or ():
        if key not in results:
            raise ValueError(f"there is no {key}.json in {', '.join(map(str, folders))}")
    drawn = random.Random(seed).sample(sorted(results), min(runs, len(results)))
    chosen = [results[key] for key in keys or drawn]
    table = Table("run", "recorded", "replayed", "verdict", box=box.SIMPLE_HEAD)
    wrong = 0
    with progress_of("runs") as progress:
        task = progress.add_task("validate", total=len(chosen))
        for verdict in replay(
            chosen, dynprune_agents.make, tolerance=tolerance, device=device, data_dir=data_dir
        ):
            config = verdict.result.config
            name = f"{config.agent}, budget {config.budget:g}, seed {config.seed}, {config.env}"
            outcome = "the same, bit for bit"
            if not verdict.identical:
                outcome = f"{100 * verdict.difference:+.2f} points"
                outcome += ", reproduced" if verdict.reproduced else ", NOT reproduced"
                outcome += f" ({'; '.join(verdict.caveats) or 'the same machine and versions'})"
            wrong += not verdict.reproduced
            accuracies = (verdict.result.test_accuracy, verdict.replay.test_accuracy)
            cells = (name, *(f"{100 * accuracy:.2f} %" for accuracy in accuracies), outcome)
            table.add_row(*map(Text, cells))
            progress.advance(task)
    console.print(table)
    if wrong:
        complain(f"{wrong} of {len(chosen)} runs did not reproduce")
        raise typer.Exit(1)


@app.command()
def kept(
    folders: Annotated[list[Path], typer.Argument(help="Folders of result files.")],
) -> None:
    """Says what was kept when: always / sometimes / never, turnover, drift, corrupted samples.

    Turnover is one minus the Jaccard index of successive selections, drift one minus Spearman's
    correlation of all losses before and after an epoch; both are means over epochs and seeds.
    """
    from dynprune_env.report.selections import kept_tables, plot_kept, summarize_kept

    rows = summarize_kept(_load(folders))
    for grid in kept_tables(rows):
        grid.print(console)
    plot_kept(rows, folders[0] / "kept.png")
    console.print(f"Picture: {folders[0]}/kept.png")


@app.command()
def train(
    algo: Annotated[
        str,
        typer.Option(
            "--algo", help="es, ppo, a2c, sac, td3, dqn; with sb3-contrib trpo, ars, tqc."
        ),
    ] = "es",
    env: Annotated[
        list[str] | None,
        typer.Option("--env", help="Environment id, repeatable. [DynPrune-Digits-v0]"),
    ] = None,
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
    env_kwargs: KwargsOption = None,
    observation: Annotated[
        str | None, typer.Option("--observation", help="samples or summary. [what fits --action]")
    ] = None,
    action: Annotated[
        str | None,
        typer.Option("--action", help="mask, score_weights, quantiles, strategy. [fits --algo]"),
    ] = None,
    reward: Annotated[str, typer.Option("--reward", help="See the README.")] = "val_accuracy",
    envs: Annotated[int, typer.Option("--envs", min=1, help="R, training runs side by side.")] = 64,
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
        str | None, typer.Option("--start", help="es: the policy to go on from, name or path.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="es: processes.")] = 1,
    out: Annotated[Path, typer.Option("--out", help="The policy's file.")] = Path("policy.zip"),
    device: DeviceOption = "auto",
    data_dir: DataOption = None,
    checkpoint_every: Annotated[
        float, typer.Option("--checkpoint-every", min=0, help="Seconds; 0 after each update.")
    ] = 20.0,
    tensorboard: Annotated[
        Path | None, typer.Option("--tensorboard", help="Folder for TensorBoard, if installed.")
    ] = None,
) -> None:
    """Trains a selection policy on a mixture of games.

    Every draw of the mixture takes one value of each repeatable option, and data of its own. A
    training that was stopped goes on from its last checkpoint: run the same command again. Play
    the result with --agent "learned(policy='policy.zip')" (es) or "sb3(policy='policy.zip')".

    Example: dynprune train --algo es --budgets 0.3 --label-noise 0 --label-noise 0.4 --jobs 2
    """
    free = ("out", "jobs", "checkpoint_every", "tensorboard")  # they change no number
    arguments = {name: value for name, value in locals().items() if name not in free}
    from dynprune_agents.learning.mixture import Mixture
    from dynprune_agents.learning.trainers import make_trainer
    from dynprune_agents.learning.training import Plan
    from dynprune_agents.learning.training import train as train_policy

    _check_folder(out.absolute().parent)
    mixture = Mixture(
        envs=tuple(env or ["DynPrune-Digits-v0"]),
        budgets=tuple(budgets or [0.1, 0.3, 0.5]),
        label_noise=tuple(label_noise or [None]),
        vary=_lists(vary),
        env_kwargs={
            **_env_kwargs(env_kwargs, None),
            "reward": reward,
            "device": device,
            "data_dir": data_dir,
        },
    )
    trainer = make_trainer(
        algo,
        mixture,
        observation=observation,
        action=action,
        num_envs=envs,
        steps=steps,
        seed=seed,
        settings=_pairs(settings, "--set"),
        start=start,
        jobs=jobs,
        tensorboard=tensorboard,
    )
    plan = Plan(
        steps,
        out,
        seed=seed,
        arguments=arguments,
        checkpoint_every=checkpoint_every,
        tensorboard=tensorboard,
    )
    with progress_of("steps") as progress:
        task = progress.add_task(f"train {algo}", total=steps)

        def show(done: int, metrics: dict[str, float]) -> None:
            lead = f", {100 * metrics['lead']:+.2f} points" if "lead" in metrics else None
            if lead:
                progress.console.print(f"{done:,} steps: val accuracy{lead} above dynamic random")
            progress.update(task, completed=min(done, steps))

        curve = train_policy(trainer, plan, show)
    inside = curve.seconds_in_env / max(jobs, 1) / max(curve.seconds, 1e-9)
    console.print(
        f"{trainer.steps:,} steps in {curve.seconds:.0f} s "
        f"({trainer.steps / max(curve.seconds, 1e-9):,.0f} a second, {inside:.0%} of it in the "
        f"environment), {curve.visits:,} sample visits"
    )
    console.print(f"Policy: {out} · curve: {out.with_suffix('.curve.png')}")


def _report(results: list[Result], failures: list[Failure], folder: Path) -> None:
    """Prints the tables, and writes them with the page and the pictures."""
    from dynprune_env.report.figures import draw_overall
    from dynprune_env.report.overall import overall_csv, overall_table, summarize_tasks
    from dynprune_env.report.page import failure_table, write_page
    from dynprune_env.report.published import published_tables

    rows = report.summarize(results)
    over = summarize_tasks(results)
    grids = [overall_table(over)] if over else []
    grids += published_tables(rows)
    grids += [failure_table(failures)] if failures else []
    report.print_table(rows, console)
    for grid in grids:
        grid.print(console)
    markdown = "\n".join([report.to_markdown(rows), *(grid.to_markdown() for grid in grids)])
    texts = {"table.md": markdown, "table.csv": report.to_csv(rows)}
    if over:
        texts["overall.csv"] = overall_csv(over)
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    report.plot_accuracy(rows, folder / "accuracy.png")
    pictures = ["accuracy.png"]
    if over:
        with atomic_write(folder / "overall.png") as temporary:
            draw_overall(over).savefig(temporary, format="png", dpi=110)
        pictures.append("overall.png")
    write_page(results, failures, folder / "report.html")
    console.print(f"Tables in {folder}: {', '.join(texts)}; pictures: {', '.join(pictures)}")
    console.print(f"Page: {folder}/report.html")


def _check_folder(folder: Path) -> None:
    """Checks that results can be written there."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ValueError(f"--out {folder}: {existing} is not a folder that can be written to")


def _env_kwargs(pairs: list[str] | None, label_noise: float | None) -> dict[str, Any]:
    """Parses KEY=VALUE pairs of an environment; some have options of their own."""
    kwargs = _pairs(pairs, "--env-kwargs")
    for key in ("budget", "action", "device", "data_dir"):
        if key in kwargs:
            raise ValueError(f"--env-kwargs cannot set {key}: it has an option of its own")
    if label_noise is not None:
        kwargs["label_noise"] = label_noise
    return kwargs


def _lists(pairs: list[str] | None) -> dict[str, Sequence[Any]]:
    """Parses KEY=[VALUE, ...] pairs."""
    lists = _pairs(pairs, "--vary", scoped=1)
    for key, values in lists.items():
        if not isinstance(values, list | tuple):
            raise ValueError(f"--vary takes KEY=[VALUE, ...], got {key}={values!r}")
        if key in ("budget", "label_noise", "data_seed", "observation", "action", "device"):
            raise ValueError(f"--vary cannot draw {key}: it is drawn or set by another option")
    return lists


def _pairs(pairs: list[str] | None, option: str, scoped: int = 0) -> dict[str, Any]:
    """Parses KEY=VALUE pairs; values are Python literals, anything else is a string.

    With `scoped` 1, TASK:KEY=VALUE is one too.
    """
    kwargs: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not all(part.isidentifier() for part in key.split(":", scoped)):
            raise ValueError(f"{option} takes KEY=VALUE, got {pair!r}")
        try:
            kwargs[key] = literal(value, pair)
        except ValueError:
            kwargs[key] = value
    return kwargs


def main() -> None:
    """Runs the command; a mistake in its arguments is one line, not a traceback."""
    sys.path.insert(0, "")  # so that --agent module:Class finds modules of the working directory
    try:
        app()
    except (ValueError, OSError, gym.error.Error) as error:
        complain(f"error: {error}")
        raise SystemExit(2) from None
