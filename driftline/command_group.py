"""The group of all commands: options that each of them takes, and one explanation of an unreachable broker."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.core import TyperGroup, TyperOption

from driftline.context import errors, silent_broker
from streaming.config import Config, load_config

COMMON = ("config", "bootstrap", "run_dir")
"""Names of the options that may stand before and after the name of a command."""

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
        """Runs the command. Raises what it raises, and BrokerSilent. An interrupted command says that it has ended."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            errors.print(
                f"interrupted: `driftline {ctx.invoked_subcommand}` has ended", highlight=False, soft_wrap=True
            )
            raise
        except Exception as error:
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
