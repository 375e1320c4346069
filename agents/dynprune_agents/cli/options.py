"""The options that several commands share, and the parsing of KEY=VALUE pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynprune_env.common.specs import literal

if TYPE_CHECKING:  # what plays is loaded by the commands that play
    from dynprune_agents import Agent

ALL = "all"
"""Stands for all agents in a list of specs."""

EnvOption = Annotated[str, typer.Option("--env", help="Environment id; see `dynprune envs`.")]
EnvsOption = Annotated[
    list[str] | None,
    typer.Option("--env", help="Environment id, repeatable. [DynPrune-Digits-v0]"),
]
EnvKwargsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--env-kwargs",
        metavar="KEY=VALUE",
        help="Keyword argument of the environment, repeatable, e.g. epochs=10.",
    ),
]
LabelNoiseOption = Annotated[
    float | None, typer.Option("--label-noise", help="Share of train labels redrawn, in [0, 1].")
]
LabelNoisesOption = Annotated[
    list[float] | None,
    typer.Option(
        "--label-noise",
        help="Share of train labels redrawn, in [0, 1], repeatable: each makes tasks of its own.",
    ),
]
OutOption = Annotated[
    Path, typer.Option("--out", help="Folder of the results, one JSON file per finished run.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
DataDirOption = Annotated[
    str | None, typer.Option("--data-dir", help="Folder of CIFAR and Fashion-MNIST.")
]


class Picture(str, Enum):
    """What files pictures are written into."""

    png = "png"
    svg = "svg"
    pdf = "pdf"


PictureOption = Annotated[Picture, typer.Option("--format", help="Of the pictures.")]
FoldersArgument = Annotated[list[Path], typer.Argument(help="Folders of result files.")]


def check_folder(folder: Path, option: str = "--out") -> None:
    """Checks that files can be written there, by writing one; leaves nothing behind.

    Raises:
        ValueError: they cannot.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
        with TemporaryFile(dir=folder) as file:
            file.write(b"it can be written")
    except (OSError, ValueError) as error:  # a name may hold what no path can
        raise ValueError(f"{option} {folder} cannot be written to: {error}") from error
    finally:
        for path in reversed(made):
            path.rmdir()


def check_file(file: Path, option: str = "--out") -> None:
    """Checks that a file can be written there; leaves nothing behind.

    Raises:
        ValueError: it cannot.
    """
    if file.is_dir():
        raise ValueError(f"{option} {file} is a folder: name a file in it")
    check_folder(file.absolute().parent, option)


def check_device(device: str) -> None:
    """Checks that this machine has a device.

    Raises:
        ValueError: it has not.
    """
    from dynprune_env.envs.settings import Settings

    Settings(device=device).find_device()


def check_data(games: Iterable[tuple[str, dict[str, Any]]], data_dir: str | None) -> None:
    """Checks that the data sets of games are there, downloading those that may be.

    Args:
        games: environment ids with their keyword arguments.
        data_dir: where to look.

    Raises:
        DataNotFoundError: one is not.
    """
    from dynprune_env.envs.settings import settings_of
    from dynprune_env.tasks.datasets import data_folder, read_raw

    for env, kwargs in {repr(game): game for game in games}.values():  # many agents play each
        settings = settings_of(env, kwargs)
        read_raw(settings.resolved.info, str(data_folder(data_dir)), settings.download)


def check_players(players: Iterable[Agent]) -> None:
    """Checks that the files that agents play from are there, and can be read.

    Raises:
        ValueError: one is not.
    """
    from dynprune_agents.policies._files import find_policy, shipped_policies
    from dynprune_env.benchmark.identity import files_of, with_parts

    shipped = set(map(find_policy, shipped_policies()))
    for agent in (part for player in players for part in with_parts(player)):
        if set(files_of(agent)) - shipped:
            dict(agent.env_kwargs)  # reads them


def parse_env_kwargs(
    pairs: list[str] | None, label_noise: float | None = None, also: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Parses KEY=VALUE pairs of an environment; some keys have options of their own.

    Args:
        pairs: what was given, or None.
        label_noise: the value of that option, or None.
        also: further keys that have options of their own.

    Raises:
        ValueError: a pair is malformed, or its key is set by another option.
    """
    kwargs = parse_pairs(pairs, "--env-kwargs")
    for key in ("budget", "action", "device", "data_dir", *also):
        if key in kwargs:
            raise ValueError(f"--env-kwargs cannot set {key}: it has an option of its own")
    if label_noise is not None:
        kwargs["label_noise"] = label_noise
    return kwargs


def parse_lists(pairs: list[str] | None) -> dict[str, Sequence[Any]]:
    """Parses KEY=[VALUE, ...] and TASK:KEY=[VALUE, ...] pairs of --vary.

    Raises:
        ValueError: a pair is malformed, or its key is set by another option.
    """
    lists = parse_pairs(pairs, "--vary", scoped=1)
    for key, values in lists.items():
        if not isinstance(values, list | tuple):
            raise ValueError(f"--vary takes KEY=[VALUE, ...], got {key}={values!r}")
        fixed = ("data_seed", "observation", "action", "reward", "device", "data_dir")
        if key in ("budget", "label_noise") or key.rpartition(":")[2] in fixed:
            raise ValueError(f"--vary cannot draw {key}: it is drawn or set by another option")
    return lists


def parse_pairs(pairs: list[str] | None, option: str, scoped: int = 0) -> dict[str, Any]:
    """Parses KEY=VALUE pairs; values are Python literals, anything else is a string.

    Args:
        pairs: what was given, or None.
        option: the option's name, for the error.
        scoped: with 1, TASK:KEY=VALUE is a pair too.

    Raises:
        ValueError: a pair is malformed.
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
