"""What a TOML file of a sweep may say: its schema, and what is wrong with one that breaks it."""

from __future__ import annotations

import math
import re
import reprlib
import sys
from typing import Annotated, Any

import msgspec

from dynprune_env.common.specs import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIMIT = 1 << 16
"""Bytes of a file; more is no description."""

MOST_DOTS = 200
"""In one line: the time and the memory that a parser needs for a key grow with their square."""

MOST_SEEDS = 100_000
LAST_SEED = 1 << 62
"""At which the first of the seeds may lie at most."""

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Kwargs = dict[str, str | int | float | bool]


class SweepFile(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of a file; see `Sweep`, which knows the defaults of those left out."""

    envs: Annotated[list[str], msgspec.Meta(min_length=1)] | msgspec.UnsetType = msgspec.UNSET
    agents: Annotated[list[str], msgspec.Meta(min_length=1)] | msgspec.UnsetType = msgspec.UNSET
    budgets: Annotated[list[Share], msgspec.Meta(min_length=1)] | msgspec.UnsetType = msgspec.UNSET
    seeds: Annotated[int, msgspec.Meta(ge=1, le=MOST_SEEDS)] | msgspec.UnsetType = msgspec.UNSET
    env_kwargs: Kwargs | msgspec.UnsetType = msgspec.UNSET
    variants: Annotated[list[Kwargs], msgspec.Meta(min_length=1)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    scaled_model: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    seed: Annotated[int, msgspec.Meta(ge=0, le=LAST_SEED)] | msgspec.UnsetType = msgspec.UNSET


def read_sweep_file(content: bytes) -> dict[str, Any]:
    """What a file says, checked.

    Args:
        content: TOML in UTF-8, with or without a byte order mark.

    Returns:
        The keys that it has.

    Raises:
        ValueError: it is no TOML, or breaks the schema.
    """
    if len(content) > LIMIT:
        raise ValueError(f"it has more than {LIMIT >> 10} kB")
    if any(line.count(b".") > MOST_DOTS for line in content.splitlines()):
        raise ValueError(f"a line has more than {MOST_DOTS} dots")
    try:
        given = tomllib.loads(content.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("its lists or tables are nested too deeply") from error
    known = SweepFile.__struct_fields__
    for key in given:
        if key not in known:
            hint = did_you_mean(key, known)
            raise ValueError(f"unknown key {key!r}; there are {', '.join(known)}.{hint}")
    _check_numbers(given)
    try:
        checked: dict[str, Any] = msgspec.to_builtins(msgspec.convert(given, SweepFile))
    except msgspec.ValidationError as error:
        raise ValueError(_in_words(str(error), given)) from error
    for kwargs in (checked.get("env_kwargs", {}), *checked.get("variants", ())):
        if "budget" in kwargs:
            raise ValueError("budget is not a keyword argument here: use budgets")
    return checked


def _check_numbers(value: Any, key: str = "") -> None:
    """Numbers are finite, and whole ones have 64 bits, as TOML says."""
    if isinstance(value, dict):
        for name, each in value.items():
            _check_numbers(each, key or name)
    elif isinstance(value, list):
        for each in value:
            _check_numbers(each, key)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key}: {value} is not a finite number")
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{key} holds a whole number of more than 64 bits")


def _in_words(message: str, given: dict[str, Any]) -> str:
    """What msgspec says of a value, with the value."""
    found = re.fullmatch(r"(.*) - at `\$\.(\w+)(?:\[(\d+)\])?(.*)`", message)
    if found is None:
        return message
    expected, key, place, inside = found.groups()
    value = given[key] if place is None else given[key][int(place)]
    shown = reprlib.repr(value)
    if inside:
        return f"{key}: {expected}, in {shown}"
    if expected.startswith("Expected `array"):
        return f"{key} is a list that is not empty, got {shown}"
    if key == "seeds" and type(value) is int:
        return f"seeds is how many, at least 1 and at most {MOST_SEEDS:,}, got {shown}"
    if key == "seed" and type(value) is int:
        return f"seed is the first, from 0 to 2^62, got {shown}"
    if key == "budgets":
        return f"budgets: {shown} is not float and in (0, 1]"
    for kind, name in (("str", "text"), ("object", "a table")):
        if expected.startswith(f"Expected `{kind}"):
            return f"{key}: {shown} is not {name}"
    return f"{key}: {shown} is not int"
