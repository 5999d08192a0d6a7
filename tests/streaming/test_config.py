"""The configuration from file, environment and command line: what wins, and how faults are reported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline import __version__
from streaming.config import Config, ConfigError, load_config
from streaming.config.environment import environment_values
from streaming.config_docs import keys
from tests.streaming.config_parts import driftline, field_of

pytestmark = pytest.mark.usefixtures("no_environment")


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
        ("JOIN", '{"window_s": 1, "window_s": 2}', "DRIFTLINE_JOIN sets 'window_s' twice: drop one"),
        ("GROUPS", '[{"name": "a", "name": "b"}]', "DRIFTLINE_GROUPS sets 'name' twice: drop one"),
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
        ("LIVE__HALF_LIVES_S", "[1, 1e20]", r"half_lives_s: 1e\+20 is larger than any setting may be"),
        ("JOIN__MAX_BYTES", "9" * 23, r"max_bytes: 1e\+23 is larger than any setting may be"),
        ("BACKBONE__WIDTH", "1000000000000", r"backbone\.width: .*less than or equal to 65536"),
        ("DOMAINS__SCENE", '["home", "a", "a"]', r"domains\.scene: 'a' is listed twice"),
        ("TOPICS__TRAFFIC", "interactions", "'interactions' is the name of two topics"),
        ("SCORER__METRICS_PORT", "8000", "scorer: port and metrics_port are both 8000, .*: set another metrics_port"),
        (
            "SCORER",
            '{"control_share": 0.02, "explore_share": 1}',
            "explore_share = 1 leaves the experiment .* no request",
        ),
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
        (b"features.redis = 'redis://h:6379'", "'redis://h:6379' is no address: give `host:port.*without redis://"),
        (b"features.redis = 'h'", r"features\.redis: 'h' is no address"),
        (b"features.redis = 'h:abc'", r"features\.redis: 'h:abc' is no address"),
        (b"features.redis = '[::1]:6379'", "the host by name or by IPv4"),
        (b"features.redis = 'h:1,i:2'", "'i:2' is no option=value: one address is taken"),
        (b"features.redis = 'h:1,sll=true'", "'sll' is no option of Redis' client; did you mean 'ssl'"),
        (b"features.project = 'a b'", r"features\.project: 'a b' is no name of a project"),
        (b"features.project = 'a-b'", "it names tables of SQLite: use an underscore"),
        (b"[[features.user_fields]]\nname = 'updated_at'", "'updated_at' is a column of the profiles themselves"),
        (b"[[features.item_fields]]\nname = ' '", "' ' names no field: give it printable text"),
        (b"topics.traffic = 'a.b'\ntopics.kernels = 'a_b'", "'a_b' is the name of two topics"),
        (b"topics.traffic = '__consumer_offsets'", "Kafka accepts no topic that is called '__consumer_offsets'"),
        (b"[[groups]]\nname = '" + b"g" * 65 + b"'", r"groups\.0\.name: String should have at most 64 characters"),
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


def test_the_version_has_one_source() -> None:
    from streaming.scorer.openapi import ABOUT

    assert driftline(["--version"]).stdout == f"driftline {__version__}\n"
    assert ABOUT["version"] == __version__


def test_two_variables_for_one_key_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_JOIN__WINDOW_S", "5")
    monkeypatch.setenv("driftline_join__window_s", "6")
    with pytest.raises(
        ConfigError, match=r"DRIFTLINE_JOIN__WINDOW_S and .*window_s both set join\.window_s: leave one"
    ):
        load_config()
