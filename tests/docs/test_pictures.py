"""Every committed picture has a command, in CONTRIBUTING.md, and every such command exists."""

from __future__ import annotations

import re
import shlex
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import typer
from helpers.pages import ROOT
from matplotlib.image import imread
from typer.main import get_command

from benchmarks.panel import main, panel

SECTION = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Pictures\n")[2]
ROWS = re.findall(r"^\| (.*`.*) \| (.*) \|$", SECTION.partition("\n## ")[0], re.MULTILINE)
COMMANDS = [each for _, text in ROWS for each in re.findall(r"`([^`]+ [^`]+)`", text)]


def committed() -> list[str]:
    """The pictures of the documentation and of the results."""
    found = [*(ROOT / "docs").glob("*.png"), *(ROOT / "benchmarks/results").rglob("*.png")]
    return [path.relative_to(ROOT).as_posix() for path in found]


def options(command: str) -> set[str]:
    """What a command of the table takes.

    Raises:
        ImportError: there is no such module.
        KeyError: there is no such command.
    """
    words = shlex.split(command)
    if words[0] == "dynprune":
        found = get_command(import_module("dynprune_agents.cli.app").app).commands[words[1]]
    else:
        assert words[:2] == ["python", "-m"]
        name = words[2]
        package = (ROOT / name.replace(".", "/")).is_dir()
        app = typer.Typer()
        app.command()(import_module(f"{name}.__main__" if package else name).main)
        found = get_command(app)
    return {name for option in found.params for name in option.opts}


@pytest.mark.parametrize("picture", committed())
def test_a_picture_has_a_command(picture: str) -> None:
    patterns = [each for cell, _ in ROWS for each in re.findall(r"`([^`]+)`", cell)]
    assert any(fnmatch(picture, pattern) for pattern in patterns)


@pytest.mark.parametrize("command", [each for each in COMMANDS if "jupyter" not in each])
def test_the_command_of_a_picture_exists_with_its_options(command: str) -> None:
    given = {word for word in shlex.split(command) if word.startswith("--")}
    assert given <= options(command)


def test_the_panel_of_the_documentation_is_that_of_a_run(tmp_path: Path) -> None:
    main(epochs=2, picture=tmp_path / "panel.png")
    seen = np.round(255 * imread(tmp_path / "panel.png")[..., :3]).astype(np.uint8)
    assert (seen == panel("ucb", 2, 0, budget=0.3)).all()
    assert not (seen == panel("ucb", 3, 0, budget=0.3)).all()
