"""`driftline kernel list|show|diff|pin|rollback|freeze|resume`. Heavy imports stay inside the commands."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from local.api_keys import ScorerKey
from streaming.config import Config

if TYPE_CHECKING:
    from streaming.control.orders import Operator
    from streaming.events.decisions import Order

app = typer.Typer(
    help="See what was published, and decide what is served: every scorer obeys within a second, and it is audited.",
    no_args_is_help=True,
)
console = Console()

KernelGroup = Annotated[str, typer.Argument(metavar="GROUP", help="Kernel group.")]
Version = Annotated[int, typer.Argument(metavar="VERSION", help="Version of a kernel in the history.", min=1)]
By = Annotated[str | None, typer.Option("--by", help="Who orders this; default is the user of this machine.")]
Why = Annotated[str, typer.Option("--why", help="Why, for the audit.")]
Scorers = Annotated[
    list[str] | None,
    typer.Option("--scorer", help="A scorer to ask whether it obeys, once per scorer; default is the configured one."),
]


def _config(context: typer.Context) -> Config:
    config = context.obj()
    assert isinstance(config, Config)
    return config


def _operator(config: Config, by: str | None, why: str) -> Operator:
    from streaming.control.orders import Operator

    try:
        return Operator(config, by or getpass.getuser(), why)
    except (OSError, KeyError) as error:  # a container's user may have no name
        raise typer.BadParameter("this user has no name: say who you are", param_hint="--by") from error


@app.command("list")
def list_kernels(
    context: typer.Context,
    group: Annotated[str | None, typer.Argument(help="Kernel group; default is all of them.")] = None,
    last: Annotated[int, typer.Option(help="Newest kernels to show of each group.", min=1)] = 20,
) -> None:
    """Show the kernels in the history, newest first, what is ordered, and what was decided about them."""
    from local.control.views import print_list

    print_list(_config(context), group, last, console)


@app.command()
def show(context: typer.Context, group: KernelGroup, version: Version) -> None:
    """Show one kernel: its card, the size of what it learned, and its largest weights by feature."""
    from local.control.views import print_kernel

    print_kernel(_config(context), group, version, console)


@app.command()
def diff(context: typer.Context, group: KernelGroup, one: Version, other: Version) -> None:
    """Show what differs between two kernels: the largest changes by feature."""
    from local.control.views import print_difference

    print_difference(_config(context), group, one, other, console)


@app.command()
def pin(
    context: typer.Context,
    group: KernelGroup,
    version: Version,
    *,
    by: By = None,
    why: Why = "",
    scorer: Scorers = None,
    key: ScorerKey = None,
) -> None:
    """Have every scorer serve this version until `resume`; learning goes on."""
    from streaming.control.history import read_history, version_of

    config = _config(context)
    past = version_of(read_history(config, group), version)
    _print_outcome(config, _operator(config, by, why).pin(group, past), scorer, key)


@app.command()
def rollback(
    context: typer.Context,
    group: KernelGroup,
    version: Annotated[int | None, typer.Argument(help="Default: the one before what is served now.", min=1)] = None,
    *,
    by: By = None,
    why: Why = "",
    scorer: Scorers = None,
    key: ScorerKey = None,
) -> None:
    """Pin the version before the one that is served, or the given one; the audit says that it was a roll-back."""
    from streaming.control.history import read_history, version_before, version_of
    from streaming.control.orders import read_order

    config = _config(context)
    history = read_history(config, group)
    if version is not None:
        past = version_of(history, version)
    else:
        newest = history[-1].info.version if history else 0
        past = version_before(history, read_order(config, group).pinned_version or newest)
    _print_outcome(config, _operator(config, by, why).pin(group, past, kind="rollback"), scorer, key)


@app.command()
def freeze(
    context: typer.Context,
    group: KernelGroup,
    learning: Annotated[bool, typer.Option("--learning", help="Stop learning; what is served goes on.")] = False,
    *,
    by: By = None,
    why: Why = "",
    scorer: Scorers = None,
    key: ScorerKey = None,
) -> None:
    """Have every scorer serve the frozen arm until `resume`; learning goes on. With --learning it is the other way."""
    config = _config(context)
    operator = _operator(config, by, why)
    _print_outcome(config, operator.stop_learning(group) if learning else operator.freeze(group), scorer, key)


@app.command()
def resume(
    context: typer.Context,
    group: KernelGroup,
    *,
    by: By = None,
    why: Why = "",
    scorer: Scorers = None,
    key: ScorerKey = None,
) -> None:
    """End every order: the newest published kernel is served again, and the processor learns."""
    config = _config(context)
    _print_outcome(config, _operator(config, by, why).resume(group), scorer, key)


def _print_outcome(config: Config, order: Order, scorers: list[str] | None, key: str | None) -> None:
    from local.control.applied import wait_until_applied
    from local.control.views import ordered
    from streaming.listening import client_url

    console.print(f"[bold]{order.group}[/]: {ordered(order)}", highlight=False, soft_wrap=True)
    configured = [client_url(config.scorer.host, config.scorer.port)] if config.scorer.port else []
    for address in scorers or configured:
        console.print(f"  {address}: {wait_until_applied(address, order, key)}", highlight=False, soft_wrap=True)
