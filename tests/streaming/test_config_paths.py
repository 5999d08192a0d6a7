"""Paths of the configuration, with and without a home folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streaming.config import load_config
from tests.streaming.config_parts import driftline, run, value_at

pytestmark = pytest.mark.usefixtures("no_environment")


@pytest.mark.parametrize("key", ["run_dir", "cache_dir", "backbone_path", "kafka.ssl_cafile", "features.text_model"])
def test_a_path_with_a_leading_tilde_is_in_the_home_folder(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "driftline.toml"
    *section, name = key.split(".")
    file.write_text("".join(f"[{part}]\n" for part in section) + f'{name} = "~/x"', encoding="utf-8")
    assert value_at(load_config(file), key) == str(tmp_path / "x")


@pytest.mark.slow
def test_every_path_of_the_command_line_is_expanded(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('log_level = "ERROR"', encoding="utf-8")
    done = driftline(["--config=~/own.toml", "--run-dir=~/run", "config"], HOME=str(tmp_path))
    assert f'run_dir = "{tmp_path}/run"' in done.stdout
    assert 'log_level = "ERROR"' in done.stdout
    for option in ("--log=~/x.csv", "--mapping=~/x.yaml", "--script=~/x.yaml"):
        other = [] if option.startswith("--script") else ["--mapping=movielens"] * ("--log" in option)
        done = driftline(["config", option, *other], HOME=str(tmp_path))
        assert "~" not in done.stderr, option


NO_HOME = """
import os, pwd, sys
def nobody(*_): raise KeyError("no entry")
pwd.getpwuid = pwd.getpwnam = nobody
from driftline.cli import main
main(sys.argv[1:])
"""


def without_home(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-c", NO_HOME, *arguments], {"HOME": None, "XDG_CACHE_HOME": None, **more})


@pytest.mark.slow
@pytest.mark.parametrize("command", [["--help"], ["serve", "--help"], ["broker", "start", "--help"], ["--version"]])
def test_without_a_home_folder_help_works(command: list[str]) -> None:
    done = without_home(*command)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.slow
def test_without_a_home_folder_the_configured_cache_folder_is_used(tmp_path: Path) -> None:
    done = without_home("config", DRIFTLINE_CACHE_DIR=str(tmp_path))
    assert f'cache_dir = "{tmp_path}"' in done.stdout


@pytest.mark.slow
def test_without_home_and_cache_folders_the_error_has_a_remedy() -> None:
    done = without_home("config")
    assert done.returncode == 2
    assert "set DRIFTLINE_CACHE_DIR" in done.stderr and "Traceback" not in done.stderr
