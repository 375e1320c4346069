"""The commands that list what there is: envs, agents, sweeps."""

from __future__ import annotations

from rich.table import Table

import dynprune_agents
from dynprune_agents.cli.terminal import console


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


def agents() -> None:
    """Lists the agents with their families and parameters."""
    families = {
        name: family for family, names in dynprune_agents.families().items() for name in names
    }
    table = Table("agent", "family", "what it keeps", "parameters and defaults", title="Agents")
    for name in dynprune_agents.names():
        agent = dynprune_agents.make(name)
        parameters = ", ".join(f"{key}={value!r}" for key, value in vars(agent).items())
        table.add_row(name, families[name], dynprune_agents.describe(name), parameters)
    console.print(table)
    console.print('Name one with its parameters: --agent "ucb(c=2.0)"; or your own: module:Class.')


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
