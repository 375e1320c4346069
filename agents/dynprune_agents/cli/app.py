"""The dynprune command: its sub-commands, and what holds for all of them."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import gymnasium as gym
import typer

from dynprune_agents.cli import lists, play, report, train
from dynprune_agents.cli.command import Command
from dynprune_agents.cli.terminal import complain, say, spell_output
from dynprune_env import __version__
from dynprune_env.common.registration import import_all

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


def tell_version(asked: bool) -> None:
    """Says it, and ends."""
    if asked:
        say(f"dynprune {__version__}")
        raise typer.Exit


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
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=tell_version, is_eager=True, help="Says which version this is."
        ),
    ] = False,
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


for command in (
    lists.envs,
    lists.agents,
    play.run,
    play.bench,
    lists.sweeps,
    report.report,
    play.validate,
    report.kept,
    train.train,
):
    app.command(cls=Command)(command)


def main() -> None:
    """Runs the command; a mistake in its arguments is one line, not a traceback."""
    spell_output()
    warnings.showwarning = lambda message, *about, **others: complain(f"warning: {message}")
    sys.path.insert(0, "")  # so that --agent module:Class finds modules of the working directory
    try:
        app()
    except (ValueError, OSError, gym.error.Error) as error:
        complain(f"error: {error}")
        raise SystemExit(2) from None
