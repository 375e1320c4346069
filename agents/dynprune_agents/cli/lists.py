"""The commands that list what there is: envs, agents, sweeps."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module

from rich import box
from rich.table import Table
from rich.text import Text

import dynprune_agents
from dynprune_agents.cli.terminal import console, say


def envs() -> None:
    """Lists the environments."""
    from dynprune_env.tasks.losses import CLASSES
    from dynprune_env.tasks.models import model_name
    from dynprune_env.tasks.registry import find_task, task_names

    table = Table(title="Environments")  # 80 columns wide
    for header in ("id", "samples", "classes", "model", "epochs"):
        table.add_column(header, no_wrap=True)
    for name in task_names():
        task = find_task(name)
        info = task.info
        classes = str(info.num_classes) if info.labels == CLASSES else "-"
        cells = (
            f"DynPrune-{name}-v0",
            f"{task.variant.num_samples(task.info):,}",
            classes,
            model_name(task.model),
            str(task.recipe.epochs),
        )
        table.add_row(*map(Text, cells))
    console.print(table)
    say('Make one with gym.make("dynprune_env:DynPrune-Digits-v0", budget=0.3).')


def agents() -> None:
    """Lists the agents by class, with their sources and parameters."""
    for family, names in dynprune_agents.families().items():
        about = (import_module(f"dynprune_agents.{family}").__doc__ or "").partition("\n")[0]
        title = Text(f"{dynprune_agents.classes()[names[0]]}: {about}", "table.title")
        table = Table(title=title, title_justify="left", box=box.HORIZONTALS, show_lines=True)
        table.add_column("agent", no_wrap=True)
        table.add_column("what it keeps, and the rule's source", ratio=5)
        table.add_column("parameters and defaults", ratio=3)
        for name in names:
            agent = dynprune_agents.make(name)
            told = Text(dynprune_agents.describe(name) + "\n").append(agent.source, "dim italic")
            parameters = "\n".join(f"{x.name}={getattr(agent, x.name)!r}" for x in fields(agent))
            table.add_row(name, told, Text(parameters))
        console.print(table)
        console.print()
    say('Name one with its parameters: --agent "ucb(c=2.0)"; or your own: module:Class.')


def sweeps() -> None:
    """Lists the sweeps that ship with the package."""
    from dynprune_env.benchmark.sweeps import load_sweep, names

    table = Table("sweep", "what it plays", "budgets", "seeds", title="Sweeps")
    for name in names():
        sweep = load_sweep(name)
        budgets = ", ".join(f"{budget:g}" for budget in sweep.budgets)
        table.add_row(name, Text(sweep.description), budgets, str(len(sweep.seeds)))
    console.print(table)
    say("Play one with `dynprune bench NAME`, or describe your own in a TOML file.")
