"""Docstrings are Markdown where they hold tables and headings: as reStructuredText for autodoc."""

import re

HEADING = re.compile(r"^#+ (.*)")


def to_rst(app, what, name, thing, options, lines):
    """Rewrites headings and tables of one docstring in place."""
    out, table = [], []
    for line in [*lines, ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        out += _list_table(table)
        table = []
        heading = HEADING.match(line)
        out += ["", f".. rubric:: {heading[1]}", ""] if heading else [line]
    lines[:] = out


def _list_table(rows):
    """Rows of cells, the second of them dashes, as a directive."""
    if not rows:
        return []
    lines = ["", ".. list-table::", "   :header-rows: 1", ""]
    for row in [rows[0], *rows[2:]]:
        lines += [f"   {'* -' if place == 0 else '  -'} {cell}" for place, cell in enumerate(row)]
    return [*lines, ""]
