"""The configuration describes itself: completely, currently, and so that it can be loaded again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from features.config import FeatureConfig
from model.config import DomainConfig, FieldSpec
from streaming.config import Config, ConfigError, GroupConfig, KafkaConfig, load_config
from streaming.config_docs import Key, as_markdown, as_toml, keys

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def test_the_page_in_docs_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == as_markdown() + "\n", (
        "run: .venv/bin/driftline config --markdown > docs/configuration.md"
    )


@pytest.mark.parametrize("key", tuple(keys()), ids=lambda key: key.path)
def test_every_key_has_a_description_and_is_on_the_page(key: Key) -> None:
    assert key.sentence.endswith("."), key
    assert f"`{key.environment}`" in as_markdown()


def test_the_default_file_loads_to_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "driftline.toml"
    path.write_text(as_toml(Config()), encoding="utf-8")
    assert load_config(path) == Config()


def test_a_changed_configuration_round_trips(tmp_path: Path) -> None:
    config = Config(
        run_dir=tmp_path / 'with "quotes" and \\',
        groups=(GroupConfig(name="day", period=("morning", "afternoon")), GroupConfig(name="rest")),
        domains=DomainConfig(region=("näh", "fern")),
        features=FeatureConfig(user_fields=(FieldSpec(name="plan", kind="multi", max_values=3),), item_fields=()),
        kafka=KafkaConfig(bootstrap="a:1,b:2", ssl_check_hostname=False),
    )
    path = tmp_path / "driftline.toml"
    path.write_text(as_toml(config), encoding="utf-8")
    assert load_config(path) == config


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_round_trips_through_the_file(text: str) -> None:
    loaded = tomllib.loads(as_toml(Config(domains=DomainConfig(scene=("x" + text,)))))
    assert loaded["domains"]["scene"] == ["x" + text]


def test_a_group_with_an_undeclared_domain_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "driftline.toml"
    path.write_text('[[groups]]\nname = "tv"\nscene = ["home", "tv"]\nperiod = ["unknown"]')
    with pytest.raises(ConfigError, match=r"group 'tv' is for scene 'tv', which domains\.scene does not declare"):
        load_config(path)


def test_a_secret_is_never_printed() -> None:
    kafka = KafkaConfig(
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="u",
        sasl_password=SecretStr("hush-hush"),
    )
    printed = as_toml(Config(kafka=kafka))
    assert "hush-hush" not in printed
    assert "# sasl_password =" in printed
