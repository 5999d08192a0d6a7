"""`driftline fine-tune`: what it writes, that the processes start on it, and what it refuses by name."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from features.live.layout import OVERALL
from lab.fine_tuning.command import FineTuneOptions, levels_of, method_of, run_fine_tune
from lab.fine_tuning.origin import TransferRefused
from lab.streams import StreamError
from lab.streams.choice import StreamChoice
from model.backbone.levels import LEVELS
from model.backbone.methods.scenes import BackboneWithScenes
from model.backbone.schema import BackboneRefused
from streaming.backbone import open_backbone
from streaming.config import Config
from streaming.group.assembly import first_rows
from tests.lab.fine_tuning.conftest import QUIET, SMALL, shop_config, shop_log


def order(shop: Path, **changes: object) -> FineTuneOptions:
    return replace(FineTuneOptions(shop / "old" / "backbone", "shorts", ("L0", "L1")), **changes)  # type: ignore[arg-type]


@pytest.fixture
def config(shop: Path, tmp_path: Path) -> Config:
    return shop_config(shop, ["home", "shorts"], "new").model_copy(update={"run_dir": tmp_path / "new"})


@pytest.fixture(scope="module")
def log(shop: Path) -> StreamChoice:
    return shop_log(shop, "new", ["home", "shorts"], 12)


def test_the_processes_start_on_the_fine_tuned_backbone(config: Config, shop: Path, log: StreamChoice) -> None:
    output = io.StringIO()
    assert run_fine_tune(config, log, order(shop), console=Console(file=output, width=200)) == 0
    opened = open_backbone(config)
    rows = {(row.kind, row.key): row for row in first_rows(config, opened, "main")}
    card = json.loads((config.backbone_dir / "card.json").read_bytes())
    (entry,) = card["lineage"]
    assert float(rows["domain", OVERALL].values[-2]) == entry["examples"] > 100
    assert opened.encoder.users.row("u11") > 0
    assert opened.encoder.user_fields[0].vocabulary.row("baker") > 0
    assert re.search(r"held-out examples of the scene: log loss 0\.\d+ before, 0\.\d+ after; ", output.getvalue())


def test_the_card_records_the_lineage_of_the_backbone(config: Config, shop: Path, log: StreamChoice) -> None:
    old = json.loads((shop / "old" / "backbone" / "card.json").read_bytes())
    run_fine_tune(config, log, order(shop, examples=120), console=QUIET)
    first = json.loads((config.backbone_dir / "card.json").read_bytes())
    (entry,) = first["lineage"]
    assert entry == {
        "from": old["fingerprint"], "scene": "shorts", "method": "full", "frozen": ["L0", "L1"], "examples": 120,
        "data": "Log shop",
        "grown": {"users": 2, "items": 0, "user_rows": 1, "item_rows": 0},
    }  # fmt: skip
    assert first["encoder_digest"] != old["encoder_digest"]
    assert first["inputs"]["domains"]["scene"] == ["home", "shorts"]
    third = shop_config(shop, ["home", "shorts", "live"], "third").model_copy(update={"run_dir": config.run_dir / "3"})
    again = order(shop, source=config.backbone_dir, scene="live")
    run_fine_tune(third, shop_log(shop, "third", ["live"], 10, 150), again, console=QUIET)
    second = json.loads((third.backbone_dir / "card.json").read_bytes())
    assert [entry["from"] for entry in second["lineage"]] == [old["fingerprint"], first["fingerprint"]]


def test_a_method_adds_parameters_of_the_scene_and_the_processes_start_on_it(
    config: Config, shop: Path, log: StreamChoice
) -> None:
    assert run_fine_tune(config, log, order(shop, frozen=(), method="lora"), console=QUIET) == 0
    opened = open_backbone(config)
    card = json.loads((config.backbone_dir / "card.json").read_bytes())
    (entry,), (own,) = card["lineage"], card["backbone"]["scenes"]
    assert (entry["method"], entry["frozen"]) == ("lora", [])
    assert own == {"scene": 2, "method": "lora", "frozen": []}
    assert isinstance(opened.backbone, BackboneWithScenes)
    assert {(row.kind, row.key) for row in first_rows(config, opened, "main")}


def refused(config: Config, log: StreamChoice, asked: FineTuneOptions, says: str) -> None:
    with pytest.raises((BackboneRefused, StreamError), match=says):
        run_fine_tune(config, log, asked, console=QUIET)
    assert not config.backbone_dir.exists() or (config.backbone_dir / "mine").is_file()


@pytest.mark.parametrize(
    ("scenes", "says"),
    [
        (
            ["home"],
            r"'shorts' is not declared: add it to domains\.scene as the last, scene = \['home', 'shorts'\]",
        ),
        (["shorts", "home"], r"scene 'shorts' must be the last of domains\.scene.*scene = \['home', 'shorts'\]"),
        (["home", "search", "shorts"], r"domains\.scene has 'search', which pretraining did not know"),
    ],
)
def test_a_scene_that_is_not_declared_after_the_old_scenes_is_refused(
    shop: Path, tmp_path: Path, log: StreamChoice, scenes: list[str], says: str
) -> None:
    config = shop_config(shop, scenes, "new").model_copy(update={"run_dir": tmp_path / "new"})
    refused(config, log, order(shop), says)


def test_a_scene_that_the_backbone_knows_is_refused(config: Config, shop: Path, log: StreamChoice) -> None:
    refused(config, log, order(shop, scene="home"), r"knows the scene 'home' already \(it has home\)")


def test_a_stream_without_examples_of_the_scene_is_refused(config: Config, shop: Path) -> None:
    says = r"Log shop has no examples of the scene 'shorts': its scenes are home"
    refused(config, shop_log(shop, "empty", ["home"], 10), order(shop), says)


def test_too_few_examples_to_validate_are_refused(config: Config, shop: Path, log: StreamChoice) -> None:
    with pytest.raises(ValueError, match="2 examples are too few"):
        run_fine_tune(config, log, order(shop, examples=2), console=QUIET)


def test_an_existing_folder_is_not_changed(config: Config, shop: Path, log: StreamChoice) -> None:
    config.backbone_dir.mkdir(parents=True)
    (config.backbone_dir / "mine").touch()
    refused(config, log, order(shop), r"backbone is there already: move it away, or name another run by --run-dir")


def test_a_folder_without_a_backbone_is_refused(config: Config, tmp_path: Path, shop: Path, log: StreamChoice) -> None:
    refused(config, log, order(shop, source=tmp_path / "nowhere"), r"no file .*nowhere/card\.json")


def test_a_damaged_backbone_is_refused(config: Config, tmp_path: Path, shop: Path, log: StreamChoice) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shop / "old" / "backbone", copy)
    (copy / "kernel-start.safetensors").write_bytes(b"torn")
    refused(config, log, order(shop, source=copy), r"kernel-start\.safetensors changed after pretraining")


def test_a_custom_backbone_is_refused(config: Config, tmp_path: Path, shop: Path, log: StreamChoice) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shop / "old" / "backbone", copy)
    card = json.loads((copy / "card.json").read_bytes())
    card["backbone"]["config"]["factory"] = "mine.py:make"
    (copy / "card.json").write_text(json.dumps(card))
    says = r"knows the layers of the foundation model, and this is a backbone of mine\.py:make"
    refused(config, log, order(shop, source=copy), says)
    own = config.model_copy(update={"backbone": SMALL.model_copy(update={"factory": "other.py:make"})})
    refused(own, log, order(shop), r"a backbone of other\.py:make.*leave backbone\.factory empty")


def test_another_text_model_is_refused(config: Config, shop: Path, log: StreamChoice) -> None:
    other = config.model_copy(update={"features": config.features.model_copy(update={"text_model": "tiny"})})
    refused(other, log, order(shop), r"features\.text_model is 'tiny', pretraining had")


def test_a_method_that_does_not_fit_the_backbone_is_refused(config: Config, shop: Path, log: StreamChoice) -> None:
    says = r"this backbone was pretrained with backbone\.user_encoder = 'none'.*or another --method"
    refused(config, log, order(shop, frozen=(), method="peterrec"), says)


def test_a_method_that_does_not_fit_is_refused_before_the_log_is_read(
    config: Config, shop: Path, tmp_path: Path
) -> None:
    missing = StreamChoice(log=tmp_path / "missing.csv", mapping=str(tmp_path / "missing.yaml"))
    refused(config, missing, order(shop, frozen=LEVELS, method="lora"), "nothing to put its parameters into")


def test_a_method_that_does_not_exist_is_refused() -> None:
    assert (method_of("full"), method_of("conure")) == (None, "conure")
    says = r"--method magic: there are full, lora, houlsby, peterrec, peterrec-parallel, conure"
    with pytest.raises(TransferRefused, match=says):
        method_of("magic")


def test_a_level_that_does_not_exist_is_refused() -> None:
    assert levels_of("L1, L0") == ("L0", "L1")
    assert (levels_of("none"), levels_of("all")) == ((), LEVELS)
    with pytest.raises(TransferRefused, match=r"--freeze L0,L9: no level 'L9'; there are L0, L1, L2, L3, none and all"):
        levels_of("L0,L9")
