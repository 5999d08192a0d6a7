"""The compose file and the image: to the specification, pinned, and consistent in themselves."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lab.streams.logged import movielens
from streaming.config import Config, load_config
from tests.streaming.composition import ROOT, compose, ours, services

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def _validate(document: Any) -> None:
    text = (files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text()
    jsonschema.Draft7Validator(json.loads(text)).validate(document)


def test_the_compose_file_follows_the_specification() -> None:
    _validate(compose())


def test_the_specification_would_refuse_a_wrong_key() -> None:
    wrong = compose()
    wrong["services"]["scorer"]["helthcheck"] = {}
    with pytest.raises(jsonschema.ValidationError, match="helthcheck"):
        _validate(wrong)


VERSION = r":v?\d+\.\d+\.\d+(-[a-z0-9.]+)?"
DIGEST = r"@sha256:[0-9a-f]{64}"


@pytest.mark.parametrize("image", sorted({service["image"] for service in services().values()}))
def test_every_image_is_pinned_to_a_full_version_and_those_of_others_to_a_digest(image: str) -> None:
    pulled = not image.startswith("driftline:")
    assert re.search(VERSION + (DIGEST if pulled else "") + "$", image)


def test_the_base_image_of_both_stages_is_one_pinned_version_and_digest() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    assert bases and len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm" + DIGEST, bases[0])


def test_the_docker_image_does_not_run_as_root() -> None:
    final_stage = DOCKERFILE.rsplit("\nFROM ", 1)[1]
    users = re.findall(r"^USER (\S+)", final_stage, re.M)
    assert users and users[-1] not in {"root", "0", "0:0"}


def test_files_copied_into_the_image_exist_in_the_build_context() -> None:
    """`.dockerignore` leaves everything out but the lines that begin with an exclamation mark."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    names = {name for line in copied for name in line.split()}
    assert names == kept
    assert all((ROOT / name).exists() for name in names)


def test_every_service_has_a_health_check_or_ends_by_itself() -> None:
    for name, service in services().items():
        one_shot = service.get("restart") == "no"
        assert one_shot != ("healthcheck" in service), name


def test_services_wait_until_their_dependencies_are_healthy_or_completed() -> None:
    everything = services()
    for name, service in everything.items():
        for needed, how in service.get("depends_on", {}).items():
            one_shot = everything[needed].get("restart") == "no"
            wanted = "service_completed_successfully" if one_shot else "service_healthy"
            assert how["condition"] == wanted, f"{name} on {needed}"


def test_only_named_volumes_and_existing_files_are_mounted() -> None:
    declared = compose()["volumes"]
    used = {mount.split(":", 1)[0] for service in services().values() for mount in service.get("volumes", [])}
    assert {name for name in used if not name.startswith("./")} == set(declared)
    assert all((ROOT / name).exists() for name in used if name.startswith("./"))


def test_ports_are_published_to_this_machine_only() -> None:
    for name, service in services().items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_the_services_are_as_listed_and_those_of_the_project_share_one_image() -> None:
    third_party = {"kafka", "redis", "prometheus", "grafana"}
    assert services().keys() == third_party | {"setup", "ingest", "processor", "scorer", "replay"}
    assert len({service["image"] for service in ours().values()}) == 1


@pytest.mark.parametrize("name", ours())
def test_the_environment_of_a_service_is_a_valid_configuration(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = tmp_path / "access.toml"  # stands for what `setup` writes
    written.write_text(f'[access]\nrequest_id_secrets = ["{"s" * 32}"]\n')
    for key, value in ours()[name]["environment"].items():
        monkeypatch.setenv(key, str(written) if key == "DRIFTLINE_CONFIG" else value)
    config = load_config()
    assert config.kafka.bootstrap == "kafka:9092"
    assert config.features.online_store == "redis"
    assert config.domains.region == movielens.domain_values()["region"]


def test_prometheus_scrapes_the_configured_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in ours()["setup"]["environment"].items():
        monkeypatch.setenv(key, value)
    config: Config = load_config()
    jobs = yaml.safe_load(Path(ROOT / "streaming/monitoring/prometheus.yml").read_text())["scrape_configs"]
    scraped = {job["dns_sd_configs"][0]["names"][0]: job["dns_sd_configs"][0]["port"] for job in jobs}
    assert scraped == {
        "ingest": config.ingest.metrics_port,
        "processor": config.processor.metrics_port,
        "scorer": config.scorer.metrics_port,
    }
    assert {section.metrics_host for section in (config.ingest, config.processor, config.scorer)} == {"0.0.0.0"}


@pytest.mark.parametrize("name", services())
def test_every_service_has_restricted_privileges_and_resource_limits(name: str) -> None:
    service = services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True and "/tmp" in service["tmpfs"]
    assert service["mem_limit"] and service["pids_limit"]
    assert not service.get("privileged")


def test_only_the_scorer_is_exposed_and_it_uses_the_keys_of_the_setup() -> None:
    config = {name: service["environment"].get("DRIFTLINE_CONFIG") for name, service in ours().items()}
    assert config.pop("setup") is None
    assert set(config.values()) == {"/var/lib/driftline/run/access.toml"}
    published = [port.split(":")[-1] for service in ours().values() for port in service.get("ports", [])]
    assert published == ["8000"]


def test_the_grafana_mounts_match_its_provisioning() -> None:
    mounts = dict(mount.split(":")[:2] for mount in services()["grafana"]["volumes"])
    folder = ROOT / "streaming/monitoring/grafana/provisioning"
    provider = yaml.safe_load((folder / "dashboards/driftline.yml").read_text())["providers"][0]
    assert mounts["./streaming/monitoring/grafana/dashboards"] == provider["options"]["path"]
    source = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == provider["options"]["path"] + "/overview.json"
    assert (ROOT / "streaming/monitoring/grafana/dashboards/overview.json").is_file()
