"""Tables by title, head and cells: in the terminal, and as a page of Markdown with its figures as JSON beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from model.whole_files import write_whole

Cells = list[list[str]]
NamedTable = tuple[str, list[str], Cells]
_WIDEST = 1_000


def show_tables(tables: Iterable[NamedTable], console: Console) -> None:
    """Tables in the terminal, none of their figures cut off."""
    for title, head, body in tables:
        table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
        for column, name in enumerate(head):
            words = " ".join([name, *(row[column] for row in body)]).split()
            longest = max(map(len, words), default=0)
            table.add_column(name, justify="left" if column == 0 else "right", min_width=longest)
        for row in body:
            table.add_row(*row)
        _print_whole(table, console)


def _print_whole(table: Table, console: Console) -> None:
    """Wider than the terminal rather than with figures cut off: a figure that is cut off is no figure."""
    least = console.measure(table, options=console.options.update(max_width=_WIDEST)).minimum
    if least > console.width:
        table.width = least
    console.print(table, crop=False, soft_wrap=True)


def markdown_page(title: str, about: str, tables: Iterable[NamedTable], notes: Iterable[str] = ()) -> str:
    """A page: what it is `about`, the tables, and `notes` as a list."""
    parts = [f"# {title}", about]
    for name, head, body in tables:
        lines = [_line(head), "|---" + "|---:" * (len(head) - 1) + "|", *map(_line, body)]
        parts += [f"## {name}", "\n".join(lines)]
    parts += [listed for listed in ["\n".join(f"- {note}" for note in notes)] if listed]
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def write_report(out: Path, name: str, figures: Mapping[str, object] | Sequence[object], page: str) -> None:
    """Writes `name`.json for programs, in which what is not a number is null, and `name`.md for people."""
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / f"{name}.json", json.dumps(plain(figures), indent=1, allow_nan=False) + "\n")
    write_whole(out / f"{name}.md", page)


def plain(value: Any) -> Any:
    """`value` as JSON, which has no tuples and no NaN: they become lists and null."""
    if isinstance(value, Mapping):
        return {key: plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_location(path: Path, seconds: float, console: Console) -> None:
    """Prints which file to open next, and how long it took to make."""
    console.print(f"{path} ({seconds:.0f} s)", highlight=False, soft_wrap=True)
