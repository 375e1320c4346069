"""A table of texts, for the terminal, for Markdown and for HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

NUMBER = ' class="number"'


@dataclass(frozen=True)
class Grid:
    """Rows of cells under headers.

    Attributes:
        title: above it.
        headers: one per column; the first column is text, the others are numbers.
        rows: as many cells each.
        caption: below it, what the numbers are.
        text_columns: further columns that hold text, by index.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    text_columns: tuple[int, ...] = (0,)

    def print(self, console: Console) -> None:
        """Prints it."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        # Text throughout: a cell may hold brackets that rich would take for markup.
        table = Table(
            title=Text(self.title, "bold"),
            title_justify="left",
            caption=Text("\n" + self.caption) if self.caption else None,
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for column, header in enumerate(self.headers):
            text = column in self.text_columns
            table.add_column(
                header,
                justify="left" if text else "right",
                overflow="fold",
                no_wrap=not text,
            )
        for first, *others in self.rows:
            first = first if len(first) < 24 else first.replace("(", "\n(", 1)
            table.add_row(*map(Text, (first, *others)))
        console.print(table)
        console.print()

    def to_markdown(self) -> str:
        """A heading, the table and its caption."""
        heads = [header.replace("\n", " ") for header in self.headers]
        kinds = [":---" if i in self.text_columns else "---:" for i in range(len(heads))]
        lines = [f"### {self.title}", ""]
        for row in (heads, kinds, *self.rows):
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
        return "\n".join([*lines, "", *([self.caption, ""] if self.caption else [])])

    def to_html(self) -> str:
        """A <table> with a <caption>, escaped."""
        head = "".join(
            f'<th scope="col"{"" if column in self.text_columns else NUMBER}>{escape(header)}</th>'
            for column, header in enumerate(self.headers)
        )
        body = "".join(f"<tr>{self._cells(row)}</tr>\n" for row in self.rows)
        note = f'<p class="note">{escape(self.caption)}</p>' if self.caption else ""
        return (
            f'<div class="scroll"><table><caption>{escape(self.title)}</caption>'
            f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>{note}"
        )

    def _cells(self, row: Sequence[str]) -> str:
        cells = []
        for column, cell in enumerate(row):
            kind = "" if column in self.text_columns else NUMBER
            cells.append(
                f'<th scope="row">{escape(cell)}</th>'
                if column == 0
                else f"<td{kind}>{escape(cell)}</td>"
            )
        return "".join(cells)
