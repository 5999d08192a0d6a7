"""The group of all commands: options that each of them takes, and one explanation of an unreachable broker."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup, TyperOption

from driftline.context import errors, silent_broker
from local.signals import ending_signal, forget_signals
from streaming.config import Config, load_config

COMMON = ("config", "bootstrap", "run_dir")
"""Names of the options that may stand before and after the name of a command."""

KEPT = {
    "bases": "nothing is kept",
    "data": "files that were fetched whole are kept; the same command fetches the rest",
    "evaluate": "finished runs are kept; the same command goes on with the others",
    "fine-tune": "the same command starts again",
    "groups": "groups that it named have begun; to start again, give the new groups topics of their own",
    "pretrain": "the same command starts again, with what the cache has",
    "replay": "what was sent stays in the log",
    "replay-log": "what it did not report as written or published is neither; the same command starts again",
    "setup": "the same command does the rest",
    "transfer": "finished runs are kept; the same command goes on with the others",
}
"""What an interrupted command leaves, and how to go on; a command that only reads or orders needs no such words."""

_PANEL = "Options of every command"


@dataclass
class ConfigSource:
    """What the common options say; of one that was typed twice the last counts."""

    config: Path | None = None
    bootstrap: str | None = None
    run_dir: Path | None = None

    def __call__(self) -> Config:
        """Reads the configuration with these overrides. Raises ConfigError."""
        overrides: dict[str, object] = {}
        if self.bootstrap is not None:
            overrides["kafka"] = {"bootstrap": self.bootstrap}
        if self.run_dir is not None:
            overrides["run_dir"] = self.run_dir
        return load_config(self.config, **overrides)


class Commands(TyperGroup):
    """All commands. Each also takes this group's common options, so that nobody need know where they belong."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        common = [option for option in self.params if option.name in COMMON and isinstance(option, TyperOption)]
        for command in self.commands.values():
            _add_options(command, [_for_subcommand(option) for option in common])

    def invoke(self, ctx: Any) -> Any:
        """Runs the command. Raises what it raises, and BrokerSilent.

        An interrupted command says that it has ended and what is kept, and exits with 128 and the signal's number.
        """
        forget_signals()
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except (KeyboardInterrupt, Exception) as error:
            number = ending_signal(error)
            if number is not None:
                name = ctx.invoked_subcommand
                kept = f"; {KEPT[name]}" if name in KEPT else ""
                errors.print(f"interrupted: `driftline {name}` has ended{kept}", highlight=False, soft_wrap=True)
                raise typer.Exit(128 + number) from error
            silent = silent_broker(ctx.obj, error)
            if silent is None:
                raise
            raise silent from error


def _for_subcommand(option: TyperOption) -> TyperOption:
    """The same option for a command, whose function does not get it: its value goes to the ConfigSource."""
    own = copy.copy(option)
    own.expose_value = False
    own.rich_help_panel = _PANEL
    own.callback = _store
    return own


def _store(context: Any, option: Any, value: Any) -> Any:
    if value is not None:
        setattr(context.find_object(ConfigSource), option.name, value)
    return value


def _add_options(command: Any, options: list[TyperOption]) -> None:
    command.params.extend(options)
    if isinstance(command, TyperGroup):
        for part in command.commands.values():
            _add_options(part, options)
