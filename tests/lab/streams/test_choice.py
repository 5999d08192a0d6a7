"""Which stream the command line means, and whether the configuration fits it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from driftline.cli import main
from features.config import FeatureConfig
from lab.streams import Catalogue, StreamError
from lab.streams.choice import StreamChoice, open_recording
from lab.streams.fit import ensure_fits, fitted
from lab.streams.recording import Recording
from model.config import DomainConfig, FieldSpec
from model.encoding.domain import DomainSpace
from streaming.config import Config, GroupConfig
from tests.lab.streams.worlds import stream

RECORDING = Recording(stream(requests=50, pretrain_requests=50, users=20), "Script test")
TEST = StreamChoice(script="test")
SHORT = "name: mine\nrequests: 20\npretrain_requests: 20\nusers: 10\nevents: [{kind: taste, at: 0.5}]\n"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The last line of the command's output; fails unless that is the whole error, and the exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()
    assert [line.startswith("error:") for line in message] == [False] * (len(message) - 1) + [True]
    return message[-1]


@pytest.mark.parametrize("command", ["pretrain", "replay", "demo", "config"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--script", "abrubt"), ("'abrubt'", "abrupt, by-domain", "did you mean 'abrupt'?")),
        (("--script", "gone.yaml"), ("gone.yaml", "No such file")),
        (("--script", "abrupt", "--log", "x.csv"), ("one stream at a time",)),
        (("--log", "x.csv"), ("--mapping FILE", "kuairand-pure")),
        (("--mapping", "mind"), ("--log FOLDER",)),
    ],
    ids=" ".join,
)
def test_a_wrong_stream_is_reported_in_one_line_with_a_remedy(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, arguments: tuple[str, ...], says: tuple[str, ...]
) -> None:
    message = refused(capsys, "--run-dir", str(tmp_path / "run"), command, *arguments)
    assert all(part in message for part in says), message


def test_a_bad_key_of_a_script_or_mapping_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: x\nrequets: 5")
    (tmp_path / "m.yaml").write_text("nome: x")
    run = ("--run-dir", str(tmp_path / "run"), "demo")
    assert "did you mean 'requests'" in refused(capsys, *run, "--script", str(tmp_path / "s.yaml"))
    log = ("--log", str(tmp_path / "log.csv"), "--mapping", str(tmp_path / "m.yaml"))
    assert "nome" in refused(capsys, *run, *log)


def test_a_choice_is_printed_as_it_was_typed() -> None:
    assert StreamChoice().arguments == ""
    assert StreamChoice(script="my drift.yaml").arguments == "--script 'my drift.yaml'"
    assert StreamChoice(log=Path("a.csv"), mapping="m.yaml").arguments == "--log a.csv --mapping m.yaml"


def test_an_archive_is_not_for_logs() -> None:
    with pytest.raises(StreamError, match="--archive"):
        StreamChoice(log=Path("a.csv"), mapping="mind", archive=Path("ml.zip")).source()


@pytest.mark.slow
def test_a_shipped_script_and_a_file_are_opened_by_name(cache_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SHORT)
    config = Config(cache_dir=cache_dir)
    mine = open_recording(config, StreamChoice(script=str(path)), Console(quiet=True))
    assert (mine.title, len(mine.requests("live"))) == ("Script mine", 20)
    assert StreamChoice(script="by-domain").source().name == "by-domain"
    assert open_recording(config, StreamChoice(), Console(quiet=True)).title == "MovieLens 100K"


def test_a_configuration_that_was_made_for_the_stream_fits_it() -> None:
    config = fitted(Config(), RECORDING.catalogue)
    assert config.domain_space().values == RECORDING.catalogue.space.values
    assert config.features.item_fields == RECORDING.catalogue.item_fields
    assert config.features.text_model == FeatureConfig().text_model
    ensure_fits(config, RECORDING, TEST)


def test_missing_configuration_values_are_listed_with_the_command_that_adds_them() -> None:
    config = fitted(Config(), RECORDING.catalogue)
    numbers = config.features.model_copy(update={"user_fields": (FieldSpec(name="gender", kind="number"),)})
    lacking = config.model_copy(update={"domains": DomainConfig(region=("north",)), "features": numbers})
    with pytest.raises(StreamError) as raised:
        ensure_fits(lacking, RECORDING, TEST)
    message = str(raised.value)
    assert "domains.region lacks south, east" in message
    assert "features.user_fields lacks gender, age" in message
    assert "`driftline config --script test`" in message


def test_a_configuration_may_declare_more_than_the_stream_holds() -> None:
    config = fitted(Config(), RECORDING.catalogue)
    more = config.domains.model_copy(update={"region": ("west", *config.domains.region)})
    ensure_fits(config.model_copy(update={"domains": more}), RECORDING, TEST)


def test_movielens_can_be_named_like_any_stream_and_is_the_default() -> None:
    assert StreamChoice().source() == StreamChoice(mapping="movielens-100k").source()
    for name in ("movielens-100k", "movielens-sessions"):
        assert StreamChoice(mapping=name, archive=Path("ml.zip")).source().dataset == name
    with pytest.raises(StreamError, match="leave --log out"):
        StreamChoice(mapping="movielens-100k", log=Path("folder")).source()


def test_missing_configuration_values_are_an_error_for_a_named_stream_and_a_warning_for_the_default(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lacking = Config(domains=DomainConfig(region=("north",)))
    with pytest.raises(StreamError, match="domains"):
        ensure_fits(lacking, RECORDING, TEST)
    ensure_fits(lacking, RECORDING, StreamChoice())
    assert "domains.region lacks south, east" in caplog.text
    assert "`driftline config --mapping movielens-100k`" in caplog.text


def test_a_domain_without_a_group_is_reported_by_name() -> None:
    config = Config(domains=DomainConfig(region=("north",)), groups=(GroupConfig(name="north", region=("north",)),))
    with pytest.raises(StreamError, match="home/south/night"):
        fitted(config, RECORDING.catalogue)


def test_a_group_for_a_value_that_the_stream_does_not_have_is_named_before_anything_is_trained() -> None:
    groups = (GroupConfig(name="video", scene=("video",)), GroupConfig(name="rest"))
    config = Config(domains=DomainConfig(scene=("home", "video")), groups=groups)
    with pytest.raises(
        StreamError,
        match=r"of the stream .* wrong: group 'video' is for scene 'video', which domains.scene does not declare",
    ):
        fitted(config, RECORDING.catalogue)


def test_names_that_a_configuration_cannot_hold_are_refused() -> None:
    twice = Catalogue((), (), DomainSpace({}), (FieldSpec(name="a"), FieldSpec(name="a")))
    with pytest.raises(StreamError, match="declared twice"):
        fitted(Config(), twice)


@pytest.mark.slow
def test_config_prints_a_file_that_fits_the_stream(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SHORT)
    with pytest.raises(SystemExit) as ended:
        main(["config", "--script", str(path)])
    assert ended.value.code == 0
    values: dict[str, Any] = tomllib.loads(capsys.readouterr().out)
    assert values["domains"]["region"] == ["north", "south", "east"]
    recording = open_recording(Config(cache_dir=cache_dir), StreamChoice(script=str(path)), Console(quiet=True))
    ensure_fits(Config(**values), recording, TEST)
