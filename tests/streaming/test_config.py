"""The configuration is read from file and environment as meant, and a fault is named with its cure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from driftline import __version__
from streaming.config import Config, ConfigError, load_config
from streaming.config.environment import environment_values, foreign_names
from streaming.config_docs import Key, keys


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("DRIFTLINE_"):
            monkeypatch.delenv(name)


# --- every key, by its name ---

OTHER: dict[str, Any] = {
    "KAFKA__BOOTSTRAP": "other:9092",
    "KAFKA__SECURITY_PROTOCOL": "SSL",
    "KAFKA__SASL_MECHANISM": "PLAIN",
    "LOG_LEVEL": "ERROR",
    "INGEST__DEAD_LETTER_RATIO": 0.4,
    "BACKBONE__FACTORY": "own.models:make",
    "BACKBONE__ITEM_ASPECTS": ["id", "text"],
    "BACKBONE__QUERY_ASPECTS": ["words"],
    "DRIFT__INPUTS": ["score"],
    "SCORER__CORS_ORIGINS": ["https://example.org"],
    "GROUPS": [{"name": "all"}],
    "DOMAINS__SCENE": ["näh", "fern"],
    "FEATURES__USER_FIELDS": [{"name": "plan"}],
    "FEATURES__ITEM_FIELDS": [{"name": "size", "kind": "number"}],
    "LIVE__HALF_LIVES_S": [3.0, 4.0],
    "LEARNER__HALF_LIVES": [1_000.0, 9_000.0],
    "ACCESS__KEYS": [{"name": "shop", "hash": "sha256:" + "0" * 64, "may": ["score", "feedback"]}],
    "ACCESS__REQUEST_ID_SECRETS": ["first" * 8, "second" * 8],
}
"""Values that no rule below can make."""

BESIDE = {
    "BACKBONE__RELEVANCE_WEIGHT": ("BACKBONE__QUERY_ASPECTS", '["text"]'),
    "BACKBONE__USER_OBJECTIVE": ("BACKBONE__USER_ENCODER", "pool"),
}
"""A key, and another without which it is refused."""


def another(field: FieldInfo, default: Any) -> Any:
    """A value of the field's type that is not its default."""
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return next(choice for choice in get_args(annotation) if choice != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, float) and any(_highest(limit) <= 1 for limit in field.metadata):
        return default / 2 + 0.01
    if isinstance(default, int | float):
        if default >= 60_000 and "port" in field.description.lower():  # type: ignore[union-attr]
            return default - 1
        return default + max((getattr(limit, "multiple_of", 1) for limit in field.metadata), default=1)
    return ["one", "two"] if get_origin(annotation) is tuple else "another"


def _highest(limit: object) -> float:
    return float(getattr(limit, "lt", getattr(limit, "le", 2)))


def field_of(environment: str) -> FieldInfo:
    model: type[BaseModel] = Config
    *section, name = environment.removeprefix("DRIFTLINE_").lower().split("__")
    for part in section:
        model = model.model_fields[part].annotation  # type: ignore[assignment]
    return model.model_fields[name]


def default_of(path: str) -> Any:
    value: Any = Config()
    for part in path.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("key", tuple(keys()), ids=lambda key: key.environment)
def test_every_environment_name_on_the_page_sets_its_key(key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    default = value_at(Config(), key.path)
    name = key.environment.removeprefix("DRIFTLINE_")
    value = OTHER.get(name, another(field_of(key.environment), default))
    assert value != default
    if name in BESIDE:
        beside, needed = BESIDE[name]
        monkeypatch.setenv(f"DRIFTLINE_{beside}", needed)
    monkeypatch.setenv(key.environment, value if isinstance(value, str) else json.dumps(value))
    assert value_at(load_config(), key.path) == value


def _plain(entry: Any) -> Any:
    if isinstance(entry, BaseModel):
        return entry.model_dump(mode="json", exclude_defaults=True)
    return entry.get_secret_value() if isinstance(entry, SecretStr) else entry


def value_at(config: Config, path: str) -> Any:
    """The value of a key, as JSON has it; a secret as its text."""
    value: Any = config
    for part in path.split("."):
        value = getattr(value, part)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


# --- faults of the environment ---


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("DOMAINS__SCENE", "home,search", r"""domains\.scene is given as JSON.*='\["home", "search"\]'"""),
        ("DOMAINS__SCENE", "['home']", r"""DOMAINS__SCENE is no JSON of a list.*='\["home"\]'"""),
        ("DOMAINS__SCENE", '"home"', r"""DOMAINS__SCENE is no JSON of a list.*='\["home"\]'"""),
        ("LIVE__HALF_LIVES_S", "4, 40", r"LIVE__HALF_LIVES_S='\[4\.0, 40\.0\]'"),
        ("GROUPS", "main", r"""GROUPS='\[\{"name": "main"\}\]'"""),
        ("GROUPS", "[" * 100_000, "GROUPS is no JSON of a list"),
        ("KAFKA", "", r"""DRIFTLINE_KAFKA is empty.*='\{"bootstrap": "localhost:9092"\}'"""),
        ("KAFKA", "kafka:9092", "DRIFTLINE_KAFKA is no JSON of a section"),
        ("KAFKA", '["kafka:9092"]', "DRIFTLINE_KAFKA is no JSON of a section"),
        ("SCORER__PORT", "", "SCORER__PORT is empty: give scorer.port a value, or leave the variable out"),
        ("SCORER__PORT", "http", r"scorer\.port: .*integer.*from DRIFTLINE_SCORER__PORT"),
        ("SCORER", '{"port": -1}', r"scorer\.port: .*greater than.*from DRIFTLINE_SCORER\)"),
        ("KAFKA__BOOTSTRAP", " ", "KAFKA__BOOTSTRAP is empty"),
        ("TOPICS__TRAFFIC", "a b", r"topics\.traffic"),
        ("RUN_DIR", "", "RUN_DIR is empty"),
        ("RUN_DIR", "\udcff", r"run_dir: .*not UTF-8.*DRIFTLINE_RUN_DIR"),
        ("CACHE_DIR", "~nobody-of-this-name/x", r"cache_dir: the home folder .* write the whole path"),
        ("CONFIG", "", "DRIFTLINE_CONFIG: the path is empty"),
        ("CONFIG", "/", "configuration file / cannot be read .*name a TOML file"),
        ("CONFIG", "/nowhere.toml", "no configuration file at /nowhere"),
        ("SCORER_PORT", "8000", "did you mean DRIFTLINE_SCORER__PORT"),
        ("KAFKA__BOOTSTRAPS", "x:1", "did you mean DRIFTLINE_KAFKA__BOOTSTRAP"),
        ("KAFKA__BOOTSTRAP__HOST", "x", "no key of Driftline"),
        ("GROUPS__0__NAME", "x", "no key of Driftline"),
        ("CONFIG", "a" * 5_000, "too long: no part may be over 255 bytes"),
        ("RUN_DIR", "a" * 300, "run_dir: .*too long"),
        ("LIVE__HALF_LIVES_S", "[true, 2]", "half_lives_s: a number is wanted, not true or false"),
        ("DOMAINS__SCENE", '["home", "a", "a"]', r"domains\.scene: 'a' is listed twice"),
        ("TOPICS__TRAFFIC", "interactions", "'interactions' is the name of two topics"),
        ("SCORER__METRICS_PORT", "8000", "scorer: port and metrics_port are both 8000, .*: set another metrics_port"),
        ("TOPICS__TRAFFIC", "..", r"topics\.traffic: Kafka accepts no topic"),
        ("PRETRAIN__SEED", "-1", r"pretrain\.seed: .*greater than or equal to 0"),
    ],
)
def test_an_invalid_environment_variable_is_reported_in_one_line_with_a_remedy(
    name: str, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"DRIFTLINE_{name}", text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e400"])
def test_no_number_of_the_configuration_may_be_infinite_or_nan(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    floats = [key for key in keys() if field_of(key.environment).annotation is float]
    assert len(floats) > 20
    for key in floats:
        monkeypatch.setenv(key.environment, text)
        with pytest.raises(
            ConfigError, match=rf"{re.escape('.'.join((*key.section, key.name)))}: .*finite number.*{key.environment}"
        ):
            load_config()
        monkeypatch.delenv(key.environment)


@pytest.mark.parametrize("written", ["[join]\nwindow_s = true", "[pretrain]\nepochs = false"])
def test_a_boolean_is_not_a_number(written: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(written, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"(window_s|epochs): a number is wanted, not true or false"):
        load_config(path)


@given(st.sampled_from([key.environment for key in keys()] + ["DRIFTLINE_KAFKA", "DRIFTLINE_LIVE"]), st.text())
def test_any_value_of_a_variable_is_accepted_or_refused_by_a_configuration_error(name: str, text: str) -> None:
    try:
        values = environment_values({name: text}, Config)
    except ConfigError as error:
        assert name in str(error)
    else:
        assert values


def test_an_error_in_a_section_with_a_secret_does_not_print_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_KAFKA", '{"sasl_password": "hush')
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert "hush" not in str(caught.value)


def test_a_single_key_overrides_the_json_of_its_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_JOIN__WINDOW_S", "7")
    monkeypatch.setenv("DRIFTLINE_JOIN", '{"window_s": 5, "lateness_s": 2}')
    assert (load_config().join.window_s, load_config().join.lateness_s) == (7, 2)


def test_the_command_line_overrides_the_environment_which_overrides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "driftline.toml"
    file.write_text('run_dir = "file"\ncache_dir = "file"\nlog_level = "ERROR"', encoding="utf-8")
    monkeypatch.setenv("DRIFTLINE_RUN_DIR", "environment")
    monkeypatch.setenv("DRIFTLINE_CACHE_DIR", "environment")
    config = load_config(file, run_dir=Path("typed"))
    assert (str(config.run_dir), str(config.cache_dir), config.log_level) == ("typed", "environment", "ERROR")


# --- variables that a cluster injects ---

INJECTED = {
    "DRIFTLINE_SERVICE_HOST": "10.0.0.1",
    "DRIFTLINE_SERVICE_PORT": "8000",
    "DRIFTLINE_SERVICE_PORT_HTTP": "8000",
    "DRIFTLINE_PORT": "tcp://10.0.0.1:8000",
    "DRIFTLINE_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "DRIFTLINE_PORT_8000_TCP_PROTO": "tcp",
    "DRIFTLINE_PORT_8000_TCP_PORT": "8000",
    "DRIFTLINE_PORT_8000_TCP_ADDR": "10.0.0.1",
    "DRIFTLINE_SCORER_SERVICE_HOST": "10.0.0.2",
    "DRIFTLINE_SCORER_SERVICE_PORT": "8000",
    "DRIFTLINE_SCORER_SERVICE_PORT_METRICS_V2": "8000",
    "DRIFTLINE_SCORER_PORT": "tcp://10.0.0.2:8000",
    "DRIFTLINE_SCORER_PORT_8000_TCP": "tcp://10.0.0.2:8000",
    "DRIFTLINE_KAFKA_PORT_9092_UDP_ADDR": "10.0.0.3",
    "DRIFTLINE_KAFKA__EU_SERVICE_HOST": "10.0.0.4",
}


def test_variables_injected_by_kubernetes_for_services_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in INJECTED.items():
        monkeypatch.setenv(name, value)
    assert load_config() == Config()
    assert foreign_names(os.environ, Config) == sorted(INJECTED)


@pytest.mark.slow
def test_a_command_logs_ignored_variables_at_debug_level(tmp_path: Path) -> None:
    done = driftline(
        ["--run-dir", str(tmp_path), "--bootstrap", "127.0.0.1:1", "setup"],
        DRIFTLINE_LOG_LEVEL="DEBUG",
        DRIFTLINE_KAFKA__STARTUP_WAIT_S="0.1",
        DRIFTLINE_PORT="tcp://10.0.0.1:8000",
    )
    assert "DRIFTLINE_PORT is a cluster's word for a service" in done.stderr


@pytest.mark.parametrize("name", ["SCORER_PORT", "METRICS_PORT", "INGEST_METRICS_PORT", "KAFKA_BOOTSTRAP", "HOST"])
def test_a_misspelled_key_is_not_taken_for_a_kubernetes_service(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"DRIFTLINE_{name}", "8000")
    with pytest.raises(ConfigError, match=f"DRIFTLINE_{name} is no key of Driftline"):
        load_config()


# --- the file ---


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            '[domains]\nscene = ["näh"]\n'.encode("latin-1"),
            r"driftline\.toml, line 2: not UTF-8 text.*save the file in UTF-8",
        ),
        ('log_level = "INFO"\n'.encode("utf-16"), r"driftline\.toml, line 1: not UTF-8"),
        (b'log_level = "INFO\n', r"driftline\.toml: .*line 1"),
        (b"x = " + b"[" * 100_000, r"driftline\.toml: "),
        (b"[scorer]\nport = 1" + b"0" * 5_000, r"driftline\.toml: "),
        (b"[scorer]\nprot = 1", r"driftline\.toml: scorer\.prot: unknown key; did you mean 'port'"),
        (b"[scorer]\nwindow_s = 1", r"scorer\.window_s: unknown key; did you mean 'join\.window_s'"),
        (b"[[groups]]\nnam = 'x'", r"groups\.0\.nam: unknown key; did you mean 'name'\? \(`driftline config`"),
        (b"groups = []\nscorer.prot = 1", r"groups: a list of at least 1 is wanted; scorer\.prot: unknown key"),
        (b"scorer = 1", r"scorer: a section with keys is wanted"),
        (b"domains.scene = 'home'", r"domains\.scene: a list is wanted"),
        (b"log_level = 'DEBG'", r"log_level: one of DEBUG, INFO, WARNING, ERROR is wanted; did you mean 'DEBUG'"),
        (b"kafka.bootstrap = 'localhost'", r"kafka\.bootstrap: 'localhost' is no address: give `host:port`"),
        (b"kafka.bootstrap = 'a:1,b:x'", r"kafka\.bootstrap: 'b:x' is no address"),
        (b"kafka.bootstrap = 'a:99999'", r"kafka\.bootstrap: 'a:99999' is no address"),
        (b"kafka.bootstrap = 'kafka://a:1'", r"kafka\.bootstrap: 'kafka://a:1' is no address"),
        (b"kafka = 5", r"driftline\.toml: kafka: "),
        (b"[join]\nhorizon_s = 3e5", r"feedback is believed for 300000 s.*raise topics\.traffic_retention_h"),
        (b'run_dir = ""', "run_dir: the path is empty"),
        (b'run_dir = "a\\u0000b"', "run_dir: .*zero byte"),
    ],
)
def test_an_error_in_the_file_is_reported_with_file_and_remedy(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "driftline.toml").write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "driftline.toml")


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "driftline.toml").write_bytes(b'\xef\xbb\xbflog_level = "ERROR"')
    assert load_config(tmp_path / "driftline.toml").log_level == "ERROR"


# --- paths and homes ---


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


def driftline(arguments: list[str], **environment: str | None) -> subprocess.CompletedProcess[str]:
    return run([str(Path(sys.executable).with_name("driftline")), *arguments], environment)


def run(command: list[str], environment: dict[str, str | None]) -> subprocess.CompletedProcess[str]:
    """Runs a command with these variables; None leaves one out."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    merged = {name: value for name, value in {**inherited, **environment}.items() if value is not None}
    return subprocess.run(command, capture_output=True, text=True, env=merged, check=False)


def test_the_version_has_one_source() -> None:
    from streaming.scorer.openapi import ABOUT

    assert driftline(["--version"]).stdout == f"driftline {__version__}\n"
    assert ABOUT["version"] == __version__
