"""Options of every command, wherever they stand, and the names that a mistyped one is compared with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from driftline.cli import app, main
from driftline.command_group import COMMON, KEPT
from local.signals import Interrupted, end_at_once, end_in_order, interruptible


def leaves(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, part in getattr(command, "commands", {}).items():
        yield from leaves(part, *path, name)
    if not hasattr(command, "commands"):
        yield path, command


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.replace("│", "").split())


@pytest.mark.parametrize("command", ["kernel show nope 1", "kernel freeze nope", "uplift --group nope"])
def test_every_command_refuses_a_group_that_is_not_configured(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no kernel group 'nope'; the configured ones are: main" in refused(capsys, *command.split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--from-time 5 --from-offset 1", "a begin or end is an offset or a time, not both"),
        ("--until-time 5 --until-offset 1", "a begin or end is an offset or a time, not both"),
        ("--from-time nan", "nan is no time"),
        ("--until-time inf", "inf is no time"),
    ],
)
def test_a_replay_begins_and_ends_at_one_point_each(
    options: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(capsys, "replay-log", "--group", "main", "--into", "a", *options.split())


@pytest.mark.parametrize("name", ["../x", "/tmp/x", ".", "..", "", "a/b", "a\0b"])
@pytest.mark.parametrize("option", ["--into", "--start"])
def test_the_name_of_a_replay_stays_in_the_folder_of_replays(
    option: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [] if option == "--into" else ["--into", "a"]
    said = refused(capsys, "replay-log", "--group", "main", option, name, *others)
    assert "names no folder: give letters, digits" in said


@pytest.mark.parametrize(("path", "command"), list(leaves(typer.main.get_command(app))), ids=str)
def test_every_command_takes_the_common_options(path: tuple[str, ...], command: Any) -> None:
    assert set(COMMON) <= {option.name for option in command.params}, path


@pytest.mark.parametrize(
    "arguments",
    [
        "--config gone.toml serve",
        "serve --config gone.toml",
        "serve -c gone.toml",
        "kernel --config gone.toml list",
        "kernel list --config gone.toml",
        "groups migrate --from old.toml --config gone.toml",
        "--config first.toml serve --config gone.toml",
    ],
)
def test_the_configuration_may_be_named_before_and_after_the_command_and_the_last_counts(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no configuration file at gone.toml: correct the path" in refused(capsys, *arguments.split())


def test_options_behind_a_command_reach_its_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--run-dir", str(tmp_path), "config"], ["config", "--run-dir", str(tmp_path)]):
        with pytest.raises(SystemExit):
            main([*arguments, "--bootstrap", "own:1"])
        told = capsys.readouterr().out
        assert f'run_dir = "{tmp_path}"' in told and 'bootstrap = "own:1"' in told


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        ("evaluate --suite standart", "standard"),
        ("evaluate --script abrupt --adapters frozen,iakk", "iak"),
        ("evaluate --script abrupt --base shiped", "shipped"),
        ("evaluate --text-models --models minilm3", "minilm-3"),
        ("evaluate --user-encoders --models sasrek", "sasrec"),
        ("pretrain --mapping kuairand", "kuairand-pure"),
        ("transfer --source movilens-100k --targets no-drift", "movielens-100k"),
        ("fine-tune --from old --scene x --method lorra", "lora"),
        ("kernel show mian 1", "main"),
        ("dead-letters list --reason unsignd", "unsigned"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_near_one(
    arguments: str, near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"did you mean '{near}'?" in refused(capsys, *arguments.split(), "--bootstrap", "localhost:1")


def test_an_interrupted_command_says_that_it_has_ended_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("local.control.views.print_list", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["kernel", "list"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted: `driftline kernel` has ended\n"


def test_an_interruption_that_a_library_turned_into_an_error_is_no_error_of_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def swallowed(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ValueError("Calling read(nbytes) on source failed") from None

    monkeypatch.setattr("local.control.views.print_list", swallowed)
    end_in_order()
    try:
        with pytest.raises(SystemExit) as ended:
            main(["kernel", "list"])
    finally:
        end_at_once()
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert ended.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "interrupted: `driftline kernel` has ended\n"


def test_a_signal_that_an_earlier_command_dealt_with_does_not_interrupt_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Interrupted), interruptible():
        signal.raise_signal(signal.SIGTERM)

    def failing(*_: object) -> None:
        raise ValueError("there is no such version")

    monkeypatch.setattr("local.control.views.print_list", failing)
    with pytest.raises(ValueError, match="there is no such version"):
        main(["kernel", "list"])


def test_every_command_that_keeps_something_exists() -> None:
    assert KEPT.keys() <= {command.name for command in typer.main.get_group(app).commands.values()}


PROGRAM = """
import signal, sys
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "driftline.cli":
            print("importing", flush=True)
            signal.pause()
sys.meta_path.insert(0, Slow())
from driftline.entry import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_while_modules_are_imported_ends_in_one_line(number: signal.Signals) -> None:
    command = [sys.executable, "-c", PROGRAM, "config"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)
        assert process.stderr.read() == "interrupted: `driftline` has ended\n"
    assert process.returncode == 128 + number


WIDTH = """
import os, shutil, sys
from types import ModuleType
cli = sys.modules["driftline.cli"] = ModuleType("driftline.cli")
cli.main = lambda: print(shutil.get_terminal_size((7, 7)).columns, os.environ.get("COLUMNS"))
from driftline.entry import main
main()
"""


@pytest.mark.parametrize(("columns", "seen"), [("0", "7 None"), ("60", "60 60")])
def test_a_terminal_of_no_columns_is_one_of_unknown_width(columns: str, seen: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WIDTH],
        env={**os.environ, "COLUMNS": columns},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == seen


CLEANING_UP = """
import signal, sys
from local import signals
signals.CLEAN_UP_S = float(sys.argv[1])
signals.end_in_order()
try:
    print("working", flush=True)
    signal.pause()
except KeyboardInterrupt:
    print("cleaning up", flush=True)
    sys.stdin.readline()
    print("clean", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("long", [True, False])
def test_a_second_signal_cuts_off_only_a_clean_up_that_takes_long(number: signal.Signals, long: bool) -> None:
    command = [sys.executable, "-c", CLEANING_UP, "0" if long else "3600"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        for line in ("working\n", "cleaning up\n"):
            assert process.stdout.readline() == line
            process.send_signal(number)
        out, err = process.communicate(None if long else "go on\n", timeout=60)
    assert out == ("" if long else "clean\n")
    assert err == ("interrupted again: `driftline` has ended at once\n" if long else "")
    assert process.returncode == (128 + number if long else 0)


def test_a_signal_that_the_starter_ignores_stays_ignored() -> None:
    program = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from local.signals import end_in_order; "
        "end_in_order(); signal.raise_signal(signal.SIGHUP); print('goes on')"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
