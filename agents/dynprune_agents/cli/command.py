"""A sub-command: its help is printed verbatim, and values given in one go are told apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from shlex import quote
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

MEANT = "dynprune.meant"
"""Of a context's `meta`: what was probably meant, " Did you mean ...?" or nothing."""

USAGE_ERROR: Any = typer.BadParameter.__base__
"""Of click, or of the one within newer versions of typer."""


class Command(TyperCommand):
    """One whose repeatable options, given as `--agents a,b` or `--agents a b`, say how to.

    Any other option that is given twice is refused: click would take the last value.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for each in self.params:
            if getattr(each, "help", None):
                vars(each)["help"] = escape(vars(each)["help"])

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Reads the arguments.

        Raises:
            ValueError: a repeatable option got several values at once, or another one was given
                twice.
        """
        context.meta[MEANT] = ""
        for name, values in self._given(args):
            parts = [part for value in values for part in split_list(value)]
            meant = f" Did you mean {' '.join(f'{name} {quote(part)}' for part in parts)}?"
            if len(split_list(values[0])) > 1:
                raise ValueError(f"{name} takes one value at a time, got {values[0]!r}.{meant}")
            if len(values) > 1:
                context.meta[MEANT] = meant
        try:
            self._check_repeated(context, args)
            return super().parse_args(context, args)
        except USAGE_ERROR as error:
            if not context.meta[MEANT]:
                raise
            raise ValueError(f"{error.format_message()}{context.meta[MEANT]}") from None

    def _check_repeated(self, context: Any, args: list[str]) -> None:
        """Checks that options which take one value are given once; flags may be repeated.

        Raises:
            ValueError: one is not.
        """
        _, _, given = self.make_parser(context).parse_args(args=list(args))
        for each in given:
            takes_one = not (getattr(each, "is_flag", True) or each.multiple)  # no argument has it
            if takes_one and given.count(each) > 1:
                raise ValueError(f"{each.opts[0]} takes one value, got {given.count(each)}")

    def _given(self, args: list[str]) -> Iterator[tuple[str, list[str]]]:
        """Each repeatable option that is given, with all that follows it up to the next option."""
        repeatable = {
            name
            for each in self.params
            if getattr(each, "multiple", False) and "=" not in (each.metavar or "")
            for name in each.opts
        }
        for place, argument in enumerate(args):
            name, equals, value = argument.partition("=")
            if name in repeatable:
                rest = takewhile(lambda each: not each.startswith("--"), args[place + 1 :])
                values = [value] * bool(equals) + list(rest)
                if values:
                    yield name, values


def split_list(text: str) -> list[str]:
    """The parts between commas outside of brackets and quotes: "a,b(c=1, d=2)" holds two."""
    inside = r"""\([^()]*\)|\[[^\[\]]*\]|"[^"]*"|'[^']*'"""
    parts = re.findall(rf"(?:{inside}|[^,])+", text)
    return [part.strip() for part in parts if part.strip()]
