"""Docstrings are written as Markdown: headings, tables and blocks of code for autodoc."""

import re
from itertools import groupby

HEADING = re.compile(r"^#+ (.*)")
DASHES = re.compile(r"^\|[-:| ]+\|$")


def to_rst(app, what, name, thing, options, lines):
    """Rewrites one docstring in place, before napoleon reads its sections."""
    out = []
    for is_bar, group in groupby(lines, key=lambda line: line.startswith("|")):
        block = list(group)
        if is_bar and len(block) > 1 and DASHES.match(block[1]):
            out += _list_table([block[0], *block[2:]])
        else:
            for line in block:
                out += _line(line, out)
    lines[:] = out


def _line(line, before):
    """A line, with a mark before it if it begins a block of code below a blank line."""
    if heading := HEADING.match(line):
        return [f".. rubric:: {heading[1]}"]
    if not line.startswith("    "):
        return [line.replace("|", "\\|")]
    text = [each for each in before if each]
    if before and not before[-1] and text and not text[-1].startswith(" "):
        return ["::", "", line]
    return [line]


def _list_table(rows):
    """Rows of a table as a directive."""
    lines = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        cells = row.strip("|").split("|")
        lines += [
            f"   {' ' if place else '*'} - {cell.strip()}" for place, cell in enumerate(cells)
        ]
    return [*lines, ""]
