"""`driftline dead-letters list|show|replay`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from model.near_names import did_you_mean
from streaming.config import Config
from streaming.events import CURES, REASONS

if TYPE_CHECKING:
    from streaming.dead_letters import LetterPosition, LetterRecord

app = typer.Typer(help="What ingest refused and kept aside: how much of it, why, and what to do.", no_args_is_help=True)
errors = Console(stderr=True)


def _known_reason(reason: str | None) -> str | None:
    if reason is not None and reason not in REASONS:
        raise typer.BadParameter(f"there is no reason {reason!r}: {', '.join(REASONS)}{did_you_mean(reason, REASONS)}")
    return reason


def _position(text: str) -> LetterPosition:
    from streaming.dead_letters import LetterPosition

    try:
        return LetterPosition.of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


ReasonOption = Annotated[
    str | None, typer.Option(help="Only letters of this reason.", callback=_known_reason, metavar="REASON")
]


def _config(context: typer.Context) -> Config:
    from streaming.clients import quiet_client_logs

    quiet_client_logs()
    config = context.obj()
    assert isinstance(config, Config)
    return config


@app.command("list")
def list_letters(
    context: typer.Context,
    reason: ReasonOption = None,
    newest: Annotated[int, typer.Option(help="Newest positions of each reason.", min=1, max=100)] = 3,
) -> None:
    """Count the letters by reason, with the newest positions of each and the cure."""
    from streaming.dead_letters import summary

    config, console = _config(context), Console()  # made now: it takes the width of the terminal as it is
    found = summary(config, reason=reason, newest=newest)
    if not found.number:
        console.print("no dead letters")
    table = Table("reason", "letters", "sent again", "newest", "what it means, and the cure")
    for name, number in found.number.most_common():
        positions = "\n".join(f"{kept.position} {_when(kept.letter.time)}" for kept in reversed(found.newest[name]))
        about = f"{REASONS.get(name, 'of another version')}.\n{CURES.get(name, '')}"
        table.add_row(name, str(number), str(found.replayed[name]), positions, about)
    if found.number:
        console.print(table)
    if found.foreign:
        errors.print(f"{found.foreign} records of {config.topics.dead_letters} are no letters", highlight=False)


@app.command()
def show(
    context: typer.Context,
    position: Annotated[str, typer.Argument(help="Where the letter stands, as `list` shows it: 0:17.")],
) -> None:
    """Print one letter whole, as JSON: what was sent, why it was refused, and the cure."""
    from streaming.dead_letters import letter_at

    config, place = _config(context), _position(position)
    kept = letter_at(config, place)
    typer.echo(msgspec.json.format(msgspec.json.encode(_shown(kept)), indent=2).decode())


@app.command("replay")
def replay_letters(
    context: typer.Context,
    positions: Annotated[list[str] | None, typer.Argument(help="Letters by position, as `list` shows them.")] = None,
    reason: ReasonOption = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also those that were sent again before, or failed the same way then.")
    ] = False,
) -> None:
    """Send the records of letters again, all of a reason or the named ones, once the cause is mended."""
    from streaming.dead_letters import replay

    if not positions and reason is None:
        raise typer.BadParameter("name positions, or a --reason")
    config, places = _config(context), {_position(text) for text in positions or ()}
    counts = replay(config, reason=reason, positions=places, again=again)
    console = Console()
    console.print(f"{counts.sent} sent again", highlight=False)
    for number, why in (
        (counts.already, "were sent again before (--again sends them once more)"),
        (counts.same_again, "were sent again before and refused for the same reason: mend the cause, then use --again"),
        (counts.without_value, "do not hold their record: see with `show` where it stands, or let the sender send it"),
    ):
        if number:
            console.print(f"{number} {why}", highlight=False, soft_wrap=True)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _shown(kept: LetterRecord) -> dict[str, Any]:
    """Text as text and other bytes in base64, as msgspec writes them."""
    letter = msgspec.structs.asdict(kept.letter)
    fields = {"position": str(kept.position), **letter, "cure": kept.letter.cure or CURES.get(kept.letter.reason, "")}
    fields["meaning"] = REASONS.get(kept.letter.reason, "")
    fields["time_utc"] = _when(kept.letter.time)
    fields["value"] = _readable(kept.letter.value)
    fields["key"] = _readable(kept.key)
    fields["headers"] = {name: _readable(value) for name, value in kept.headers}
    return fields


def _readable(data: bytes | None) -> str | bytes | None:
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return data
