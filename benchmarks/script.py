"""Running a script of this folder from its command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from dynprune_agents.cli.terminal import complain


def run_script(main: Callable[..., Any]) -> None:
    """Runs a function with the arguments of the command line.

    What is wrong with these, or with the files that they name, is one line and the exit code 2.

    Args:
        main: with arguments as typer takes them; raises ValueError or OSError for what is wrong.
    """
    try:
        typer.run(main)
    except (ValueError, OSError) as error:
        complain(f"error: {error}")
        raise SystemExit(2) from None
