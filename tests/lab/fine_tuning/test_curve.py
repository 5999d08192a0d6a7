"""What a new scene's first examples are worth: the streams, and the figures of each method."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import Plan, make_plan
from lab.fine_tuning.comparison import markdown, run_new_scene
from lab.fine_tuning.curve import FREEZE, SCENE_METHODS, SEQUENCE_METHODS, CurveRow, curve, methods_for
from lab.fine_tuning.new_scene import EXAMPLES, scene_of
from lab.fine_tuning.origin import TransferRefused
from lab.streams import Chunk
from lab.streams.logged.logs import LoggedStream
from lab.transfer.scoring import TransferRow
from model.backbone.levels import LEVELS
from model.config import BackboneConfig
from streaming.config import Config
from tests.lab.evaluate.small import CONFIG, KERNEL, small, texts

EVENT = "[{kind: new_domain, at: 0, facet: scene, value: shorts, traffic: 0.8}]"


@pytest.fixture(scope="module")
def stream() -> LoggedStream:
    return scene_of(small(EVENT), "shop", "scene", "shorts")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder: Path = tmp_path_factory.mktemp("curve")
    return replace(make_plan([], ("frozen",), 1, folder, folder, quick=True, kernel=KERNEL), config=CONFIG)


@pytest.fixture(scope="module")
def rows(plan: Plan, stream: LoggedStream) -> dict[str, CurveRow]:
    return {row.method: row for row in curve(plan, stream, 0, texts)}


def test_the_first_half_excludes_the_scene_and_the_live_half_is_only_the_scene(stream: LoggedStream) -> None:
    whole = small(EVENT)
    live = Chunk.concat(list(whole.chunks("live")))
    mine = live.rows(live.domain[:, 0] == whole.catalogue.space.values["scene"].index("shorts"))
    first, new = (Chunk.concat(list(stream.chunks(half))) for half in ("pretrain", "live"))
    assert new.shown[:-1].sum() < EXAMPLES <= new.shown.sum()
    np.testing.assert_array_equal(new.items, mine.items[: len(new)])
    np.testing.assert_array_equal(new.user, mine.user[: len(new)])
    assert (new.domain[:, 0] == 0).all()
    assert (first.domain[:, 0] == 1).all()
    assert stream.catalogue.space.values["scene"] == ("unknown", "home")


def test_a_value_of_another_facet_can_be_the_held_out_scene() -> None:
    held_out = scene_of(small("[]"), "part", "region", "north")
    first, new = (Chunk.concat(list(held_out.chunks(half))) for half in ("pretrain", "live"))
    north = held_out.catalogue.space.values["region"].index("north")
    assert (first.domain[:, 1] != north).all()
    assert (new.domain[:, :2] == 0).all()


def test_before_the_first_retraining_all_fine_tunings_are_equal_and_scratch_is_constant(
    rows: dict[str, CurveRow],
) -> None:
    assert len({rows[method].log_loss[0] for method in FREEZE}) == 1
    assert rows["from scratch"].request_auc[0] == 0.5
    assert rows["from scratch"].log_loss[0] == pytest.approx(math.log(2))


def test_more_frozen_levels_train_fewer_numbers(rows: dict[str, CurveRow]) -> None:
    nothing, *levels = [rows[method].trained for method in FREEZE]
    assert nothing == rows["frozen"].trained == 0
    assert sorted(levels, reverse=True) == levels
    assert all(row.cpu_s >= 0 for row in rows.values())


def test_the_methods_start_as_the_extended_backbone_and_train_their_own_parameters(rows: dict[str, CurveRow]) -> None:
    grown, full = rows["tables grown, nothing trained"], rows["fine-tune, none frozen"]
    for method in SCENE_METHODS:
        assert rows[method].log_loss[0] == grown.log_loss[0]
        assert 0 < rows[method].trained < full.trained


def test_a_sequence_encoder_is_patched_and_reads_user_histories(
    plan: Plan, stream: LoggedStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.fine_tuning.curve.FREEZE", {"tables grown, nothing trained": LEVELS})
    monkeypatch.setattr("lab.fine_tuning.curve.SCENE_METHODS", ())
    backbone = CONFIG.backbone.model_copy(update={"user_encoder": "gru4rec", "history_length": 4})
    config = replace(CONFIG, backbone=backbone)
    found = {row.method: row for row in curve(replace(plan, config=config), stream, 0, texts)}
    assert {*SEQUENCE_METHODS} < {*found}
    for method in SEQUENCE_METHODS:
        assert found[method].log_loss[0] == found["tables grown, nothing trained"].log_loss[0]
        assert found[method].trained > 0


def test_the_table_has_a_row_per_method_with_the_interval_over_seeds(rows: dict[str, CurveRow]) -> None:
    other = [replace(row, seed=1, log_loss=(0.7, 0.7, 0.7)) for row in rows.values()]
    lines = markdown([*rows.values(), *other]).splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")][1:] == [f"| {method}" for method in rows]
    assert all("±" in line for line in lines if line.startswith("| f"))


@pytest.mark.parametrize(
    "keys",
    [{"factory": "mine.py:model"}, {"tasks": "ctr_ctcvr"}, {"query_aspects": ["text"]}],
    ids=lambda keys: next(iter(keys)),
)
def test_a_backbone_that_does_not_fit_the_methods_is_refused_by_its_key(
    keys: dict[str, object], tmp_path: Path
) -> None:
    config = Config.model_validate({"backbone": keys})
    with pytest.raises(TransferRefused, match=rf"backbone\.{next(iter(keys))} is .* for this comparison"):
        run_new_scene(config, ComparisonOptions(tmp_path, seeds=1, quick=True))


def test_a_second_call_computes_no_curve_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = CurveRow("newcomers", 0, "frozen", (0.5, math.nan, 0.6), (0.4, 0.5, 0.6), 0.0, 0)
    monkeypatch.setattr("lab.fine_tuning.comparison.STREAMS", ["newcomers"])
    monkeypatch.setattr("lab.fine_tuning.comparison.curve", lambda *_: iter([row]))
    order = ComparisonOptions(tmp_path / "out", seeds=1, quick=True)
    first = run_new_scene(Config(), order, console=Console(quiet=True))
    monkeypatch.delattr("lab.fine_tuning.comparison.curve")
    assert repr(run_new_scene(Config(), order, console=Console(quiet=True))) == repr(first) == repr([row])


@pytest.mark.parametrize("row", [CurveRow, TransferRow])
def test_the_page_names_every_key_of_the_rows(row: type[CurveRow | TransferRow]) -> None:
    page = Path("docs/evaluation.md").read_text(encoding="utf-8")
    title = "## A new scene" if row is CurveRow else "## One source, many targets"
    section = page.partition(f"{title}\n")[2].partition("\n## ")[0]
    assert [field.name for field in fields(row) if f"`{field.name}`" not in section] == []


def test_methods_are_compared_where_the_backbone_supports_them() -> None:
    assert methods_for(BackboneConfig(trunk="dssm")) == ()
    assert methods_for(BackboneConfig()) == methods_for(BackboneConfig(user_encoder="pool")) == SCENE_METHODS
    assert methods_for(BackboneConfig(user_encoder="sasrec")) == (*SCENE_METHODS, *SEQUENCE_METHODS)
