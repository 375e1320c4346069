"""The commands that play: run, bench, validate."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

import dynprune_agents
from dynprune_agents.cli.command import MEANT
from dynprune_agents.cli.options import (
    ALL,
    DataDirOption,
    DeviceOption,
    EnvKwargsOption,
    EnvOption,
    EnvsOption,
    FoldersArgument,
    LabelNoiseOption,
    LabelNoisesOption,
    OutOption,
    Picture,
    PictureOption,
    check_data,
    check_device,
    check_folder,
    check_players,
    parse_env_kwargs,
)
from dynprune_agents.cli.report import complain_of_foreign, load, write_report
from dynprune_agents.cli.terminal import (
    SweepProgress,
    complain,
    console,
    name_of,
    progress_of,
    say,
    watched,
)
from dynprune_agents.cli.trust import TrustOption, check_sweep, import_hint, without_foreign
from dynprune_env.benchmark.index import load_runs, whole
from dynprune_env.benchmark.results import Result, load_failures
from dynprune_env.benchmark.tabulated import FinishedRun
from dynprune_env.common.pulse import listening
from dynprune_env.common.stopping import Stopped

if TYPE_CHECKING:  # planning imports the environments, and only playing needs them
    from dynprune_env.benchmark.episodes import RunGroup
    from dynprune_env.benchmark.replay import Verdict
    from dynprune_env.benchmark.sweeps import Sweep
    from dynprune_env.common.processes import LokyWorker

SAVE_EVERY = 30.0
"""Seconds between two savings of a long run's state."""

VARIANTS = (
    "dynamic_random(replacement=False)",
    "learned(policy='weighted')",
    "learned(policy='robust')",
)
"""What a benchmark of all agents plays besides their defaults."""


def run(
    context: typer.Context,
    env: EnvOption = "DynPrune-Digits-v0",
    agent: Annotated[
        str, typer.Option("--agent", help='An agent\'s spec, e.g. ucb or "ucb(c=2.0)".')
    ] = "dynamic_random",
    budget: Annotated[
        float, typer.Option("--budget", help="Share of a full run's sample visits, in (0, 1].")
    ] = 0.5,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="The first seed.")] = 0,
    env_kwargs: EnvKwargsOption = None,
    label_noise: LabelNoiseOption = None,
    out: OutOption = Path("results"),
    device: DeviceOption = "auto",
    data_dir: DataDirOption = None,
) -> None:
    """Plays one agent and prints what came out.

    Ctrl-C lets the epochs under way end and saves them: the same command then goes on from there.

    Example: dynprune run --env DynPrune-Digits-v0 --agent "ucb(c=2.0)" --budget 0.3 --seeds 5
    """
    from dynprune_env.benchmark.episodes import run_episodes
    from dynprune_env.benchmark.exchange import FolderExchange, state_path, stoppable_runs
    from dynprune_env.benchmark.standing import STALE
    from dynprune_env.benchmark.sweeps import plan_groups, seed_range
    from dynprune_env.report.summary import summarize
    from dynprune_env.report.summary_tables import accuracy_tables

    player = dynprune_agents.make(agent)
    kwargs = parse_env_kwargs(env_kwargs, label_noise)
    own_seeds = seed_range(seed, seeds)
    everything = plan_groups(env, [repr(player)], [budget], own_seeds, kwargs, device)
    wanted = (repr(player), budget)  # without the reference that a benchmark adds
    groups = [group for group in everything if (group.agent, group.env_kwargs["budget"]) == wanted]
    check_players([player])
    check_device(device)
    check_folder(out)
    check_data(_games(groups), data_dir)
    results, unsaved = [], 0
    older: list[set[str]] = []
    exchange = FolderExchange(out)
    try:
        with progress_of("epochs") as progress, stoppable_runs(exchange):
            for group in groups:
                task = progress.add_task(name_of(group)[:40], total=1.0, doing="")
                store = exchange.assign((group, group.seeds)).store
                with (
                    store.checkpoint(SAVE_EVERY, trust=False) as checkpoint,
                    listening(partial(_show, progress, task)),
                ):
                    results += run_episodes(
                        env,
                        player,
                        group.seeds,
                        env_kwargs=group.env_kwargs,
                        device=device,
                        data_dir=data_dir,
                        imports=context.obj,
                        on_epoch=lambda done, task=task: progress.update(  # type: ignore[misc]
                            task, completed=float(done.mean())
                        ),
                        checkpoint=checkpoint,
                    )
                progress.update(task, completed=1.0)  # also of runs that were over at once
                if not watched():
                    say(f"{len(results)} of {seeds} done: {name_of(group)}")
                saved = [_save(result, out) for result in results[-len(group.seeds) :]]
                unsaved += saved.count(None)
                older += [made_by for made_by in saved if made_by]
                if None not in saved:
                    checkpoint.remove()
    except (Stopped, KeyboardInterrupt):
        under_way = any(state_path(out, group).exists() for group in groups)
        complain(_what_is_kept(out, own_seeds, len(results), under_way))
        raise typer.Exit(130) from None
    for grid in accuracy_tables(summarize(results)):
        grid.print(console)
    if older:
        made_by = ", ".join(sorted(set().union(*older)))
        what = f"{len(older):,} older {'result' if len(older) == 1 else 'results'}"
        complain(f"{what} with other numbers moved into {out}/{STALE}/; what differs: {made_by}")
    say(f"Results: {out}/*.json")
    if unsaved:
        raise typer.Exit(1)


def _save(result: Result, folder: Path) -> set[str] | None:
    """Writes a result, see `save_anew`; says so and returns None if it cannot be written."""
    from dynprune_env.benchmark.standing import save_anew

    try:
        return save_anew(result, folder)
    except OSError as error:
        complain(f"the result of seed {result.config.seed} cannot be written: {error}")
        return None


def _what_is_kept(folder: Path, seeds: Sequence[int], done: int, under_way: bool) -> str:
    """What to say of a run that was stopped.

    Args:
        folder: of the results.
        seeds: of all its runs, in the order in which they are played.
        done: of so many there is a result.
        under_way: whether there is a state of others.
    """
    if not done and not under_way:
        return "stopped before an epoch was saved; the same command begins again"
    kept = [f"{done} of {len(seeds)} results"] * (done > 0) + ["the epochs played"] * under_way
    others = f" with --seed {seeds[done]} --seeds {len(seeds) - done}" * (0 < done < len(seeds))
    return f"stopped; {' and '.join(kept)} are saved in {folder}; the same command{others} goes on"


def _show(progress: Progress, task: TaskID, what: str, share: float) -> None:
    """Tells how far the work of a run is within what it does now."""
    progress.update(task, doing=f"{what}, {share:.0%}")


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
    env: EnvsOption = None,
    agents: Annotated[
        list[str] | None,
        typer.Option("--agents", help="An agent's spec, or all, repeatable. [all]"),
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
    ] = SAVE_EVERY,
    accept_stale: Annotated[
        bool,
        typer.Option(
            "--accept-stale",
            help="Keep results also where your own code, a policy file or the data changed since.",
        ),
    ] = False,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="Play again what another version of dynprune made."),
    ] = False,
    env_kwargs: EnvKwargsOption = None,
    label_noise: LabelNoisesOption = None,
    out: OutOption = Path("results"),
    device: DeviceOption = "auto",
    data_dir: DataDirOption = None,
    trust: TrustOption = False,
    picture: PictureOption = Picture.png,
) -> None:
    """Plays several agents at several budgets, and full data as the reference.

    Without arguments: Digits, all agents, budgets 0.3, 0.5 and 0.7, ten seeds. A run whose result
    is in the folder already is not repeated, and a long one goes on from its last saved epoch: a
    benchmark that was stopped goes on where it was. Runs that failed are tried again, and so are
    those whose agent, policy file or data changed since.

    Example: dynprune bench --agents ucb --agents dynamic_random --budgets 0.1 --seeds 20
    """
    workers = _started(jobs, backend, out, context)
    from dynprune_env.benchmark.exchange import RUNNING
    from dynprune_env.benchmark.runner import run_sweep
    from dynprune_env.benchmark.sweeps import seed_range

    plan = _load(sweep, context)
    if env:
        plan = replace(plan, envs=tuple(env))
    if not trust:  # what the options name are the user's own words
        kept = replace(plan, envs=() if env else plan.envs, agents=() if agents else plan.agents)
        check_sweep(kept)
    if seeds or seed is not None:
        first = plan.seeds[0] if seed is None else seed
        plan = replace(plan, seeds=seed_range(first, seeds or len(plan.seeds)))
    plan = replace(plan, budgets=tuple(budgets or plan.budgets))
    plan = plan.scaled(scale).with_kwargs(parse_env_kwargs(env_kwargs))
    plan = plan.varied("label_noise", label_noise or ())
    players = [dynprune_agents.make(spec) for spec in _all_of(agents or plan.agents or [ALL])]
    groups = plan.groups(
        list(dict.fromkeys(map(repr, players))), device if backend == "loky" else "auto"
    )
    check_players(players)
    check_folder(out)
    if backend == "loky":  # on a cluster it is for the workers to have
        check_device(device)
        check_data(_games([g for g in groups if not _played(g, out)]), data_dir)
    failures = 0
    with SweepProgress(groups) as progress:
        outcomes = run_sweep(
            groups,
            dynprune_agents.make,
            out,
            jobs=jobs,
            workers=workers,
            backend=backend,
            gpus=gpus,
            device=device,
            data_dir=data_dir,
            save_every=save_every,
            accept_stale=accept_stale,
            refresh=refresh,
            trust=trust,
            on_start=progress.start_group,
            on_note=complain,
            imports=context.obj,
        )
        try:
            with listening(progress.hear):  # with one job this process plays
                for outcome in outcomes:
                    progress.end_group(outcome)
                    if outcome.error:
                        failures += 1
                        budget = outcome.group.env_kwargs["budget"]
                        name = f"{outcome.group.agent} at budget {budget}"
                        complain(f"failed: {name}: {outcome.error}")
        except KeyboardInterrupt:
            saved = any(out.glob("*.json")) or any((out / RUNNING).glob("*.state"))
            then = (
                f"goes on from what is saved in {out}"
                if saved
                else "begins again: nothing was saved"
            )
            complain(f"stopped; the same command {then}")
            raise typer.Exit(130) from None

    wanted = {config.key for group in groups for config in group.configs()}
    foreign: list[str] = []
    results = [r for r in load_runs([out], foreign.append) if r.config.key in wanted]
    failed = [each for each in load_failures([out]) if each.config.key in wanted]
    complain_of_foreign(foreign)
    complete = not results or write_report(results, failed, out, picture.value)
    if failures:
        complain(
            f"{failures} of {len(groups)} groups of runs failed; see above, and {out}/failed/."
        )
    if failures or foreign or not complete:
        raise typer.Exit(1)


def _started(jobs: int, backend: str, out: Path, context: typer.Context) -> list[LokyWorker]:
    """Processes that load torch while this one does; none where perhaps all is played already."""
    from dynprune_env.common.processes import local_workers

    if backend != "loky" or jobs == 1 or any(out.glob("*.json")):
        return []
    workers = local_workers(jobs)
    for worker in workers:
        context.call_on_close(worker.close)
        worker.start("dynprune_env.benchmark.episodes")
    return workers


def _load(sweep: str, context: typer.Context) -> Sweep:
    """A sweep by its name, which may have been meant for an option before it."""
    from dynprune_env.benchmark.sweeps import load_sweep

    try:
        return load_sweep(sweep)
    except ValueError as error:
        hint = "" if "Did you mean" in str(error) else context.meta[MEANT]
        raise ValueError(f"{error}{hint}") from error


def _games(groups: Iterable[RunGroup]) -> list[tuple[str, dict[str, Any]]]:
    """The environments that groups are played in, without what each agent adds."""
    return [(group.env, group.env_kwargs) for group in groups]


def _played(group: RunGroup, folder: Path) -> bool:
    """Whether there is a file for each result of a group."""
    return all((folder / f"{config.key}.json").exists() for config in group.configs())


def _all_of(specs: Sequence[str]) -> list[str]:
    """The specs, with those of all agents in the place of ALL."""
    everything = [*dynprune_agents.names(), *VARIANTS]
    return [each for spec in specs for each in (everything if spec == ALL else [spec])]


def validate(
    folders: FoldersArgument,
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
    data_dir: DataDirOption = None,
    trust: TrustOption = False,
) -> None:
    """Replays runs from their configurations alone and says whether the numbers match.

    What the results name is played only if it ships with this package, agents, policies and
    environments, or with --trust: results of others cannot run code of theirs here.

    On the machine that made a result, with the same libraries and on its CPU, all numbers but the
    seconds have to be the same, bit for bit. Elsewhere roundings differ and training amplifies
    them: test accuracy and saved fraction then have to be within the tolerance.
    """
    from dynprune_env.benchmark.replay import validate as replay

    check_device(device)
    foreign: list[str] = []
    results = {result.config.key: result for result in load(folders, foreign)}
    for key in keys or ():
        if key not in results:
            raise ValueError(f"there is no {key}.json in {', '.join(map(str, folders))}")
    if not trust:
        results = _safe([results[key] for key in keys] if keys else results.values())
    if not results:
        complain("no run could be checked")
        raise typer.Exit(1)
    drawn = random.Random(seed).sample(sorted(results), min(runs, len(results)))
    chosen = [whole(results[key]) for key in keys or drawn if key in results]
    table = Table("run", "recorded", "replayed", "verdict", box=box.SIMPLE_HEAD)
    wrong, unplayed = 0, []
    with progress_of("runs") as progress:
        task = progress.add_task("validate", total=len(chosen))

        def add_unplayed(result: Result, why: str) -> None:
            unplayed.append(result)
            hint = import_hint(result.config.env)
            _add_row(table, result, "", f"could not be played: {why}{hint and f' ({hint})'}")
            progress.advance(task)

        for verdict in replay(
            chosen,
            dynprune_agents.make,
            tolerance=tolerance,
            device=device,
            data_dir=data_dir,
            on_error=add_unplayed,
        ):
            wrong += not verdict.reproduced
            accuracy = f"{100 * verdict.replay.test_accuracy:.2f} %"
            _add_row(table, verdict.result, accuracy, _in_words(verdict))
            progress.advance(task)
    console.print(table)
    if wrong:
        complain(f"{wrong} of {len(chosen)} runs did not reproduce")
    if unplayed:
        complain(f"{len(unplayed)} of {len(chosen)} runs could not be played")
    if wrong or unplayed or foreign:
        raise typer.Exit(1)


def _safe(results: Iterable[FinishedRun]) -> dict[str, FinishedRun]:
    """By key, the results that can be played without trust; says which others there are."""
    safe, reasons = without_foreign(results)
    for reason in reasons:
        complain(f"left out: {reason}")
    return {result.config.key: result for result in safe}


def _add_row(table: Table, result: Result, replayed: str, outcome: str) -> None:
    """Adds what became of a run to the table of verdicts."""
    config = result.config
    name = f"{config.agent}, budget {config.budget:g}, seed {config.seed}, {config.env}"
    table.add_row(*map(Text, (name, f"{100 * result.test_accuracy:.2f} %", replayed, outcome)))


def _in_words(verdict: Verdict) -> str:
    """Whether a run reproduced, and how far it is off."""
    if verdict.identical:
        return "the same, bit for bit"
    outcome = "reproduced" if verdict.reproduced else "NOT reproduced"
    caveats = "; ".join(verdict.caveats) or "the same machine and versions"
    return f"{100 * verdict.difference:+.2f} points, {outcome} ({caveats})"
