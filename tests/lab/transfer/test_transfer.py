"""`driftline transfer`: what is held out of the source, what methods are measured on, and what is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab.evaluate.options import ComparisonOptions
from lab.fine_tuning.curve import SEQUENCE_METHODS
from lab.fine_tuning.origin import TransferRefused
from lab.intervals import interval
from lab.streams.sources import NamedStreams, Source, log_source, movielens_source
from lab.transfer.command import run_transfer
from lab.transfer.methods import FREEZE, KERNEL_LIVE, METHODS, POPULARITY, SCRATCH, ZERO_SHOT
from lab.transfer.parts import parts_of
from lab.transfer.scoring import TargetTrial, TransferRow
from lab.transfer.tables import markdown
from lab.transfer.task import TransferTask, open_task
from model.config import ITEM_ASPECTS, HistorySpec, ItemAspect, PretrainConfig
from model.encoding.history import PAD
from streaming.config import Config
from tests.lab.fine_tuning.conftest import QUIET, SMALL, shop_log


@pytest.fixture(scope="module", autouse=True)
def one_pass() -> Iterator[None]:
    """Every method trains for one pass: enough to tell what each trains and reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab.evaluate.plan.PRETRAIN", PretrainConfig(epochs=1, clue_steps=2))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


@pytest.fixture(scope="module")
def shop(folder: Path) -> Source:
    choice = shop_log(folder, "shop", ["home", "shorts"], 20, 1_600)
    return log_source(choice.log, choice.mapping)


@pytest.fixture(scope="module")
def task(shop: Source, folder: Path) -> TransferTask:
    return opened(shop, folder, "shop", ["genre=comedy", "job=baker"])


def opened(
    shop: Source, folder: Path, source: str, targets: list[str], aspects: tuple[ItemAspect, ...] = ITEM_ASPECTS
) -> TransferTask:
    first, others = parts_of(source, targets, shop)
    return open_task(first, others, 0, folder, aspects)


@pytest.fixture(scope="module")
def comedies(folder: Path) -> Callable[[], list[TransferRow]]:
    """Calls the command for one target, always into the same folder."""
    wide = shop_log(folder, "wide", ["home"], 200, 1_600)  # no user has seen everything
    order = ComparisonOptions(folder / "out", NamedStreams(log=wide.log, mapping=wide.mapping), seeds=1, quick=True)
    config = Config(cache_dir=folder, backbone=SMALL)
    return lambda: run_transfer(config, order, source="wide", targets=["genre=comedy"], console=QUIET)


@pytest.fixture(scope="module")
def rows(comedies: Callable[[], list[TransferRow]]) -> dict[str, TransferRow]:
    return {row.method: row for row in comedies()}


def test_pretraining_excludes_the_examples_of_every_target(task: TransferTask) -> None:
    source, (comedy, bakers) = task.source, task.targets
    shown = source.pretrain.items[source.pretrain.shown]
    fields = [item.fields["genre"] for item in source.catalogue.items]
    assert {fields[item] for item in shown} == {"war"}
    assert {fields[item] for chunk in (comedy.train, comedy.test) for item in chunk.items[chunk.shown]} == {"comedy"}
    jobs = [user.fields["job"] for user in source.catalogue.users]
    assert {jobs[user] for user in source.pretrain.user} == {"cook"}
    assert {jobs[user] for chunk in (bakers.train, bakers.test) for user in chunk.user} == {"baker"}
    assert {fields[item] for item in bakers.items} == {"comedy", "war"}


def test_training_examples_are_older_than_test_examples(task: TransferTask) -> None:
    for target in task.targets:
        assert max(target.train.time.max(), task.source.pretrain.time.max()) < target.test.time.min()


def test_the_catalogue_is_ranked_without_items_shown_in_source_or_target_training(task: TransferTask) -> None:
    bakers = task.targets[1]
    trial = TargetTrial.of(task, bakers, 0)
    users = trial.catalogue.examples.user.reshape(trial.relevant.shape)[:, 0]
    items = trial.catalogue.examples.item.reshape(trial.relevant.shape)
    assert (items == bakers.items).all()
    for place, user in enumerate(users):
        mine = bakers.test.user == user
        clicked = bakers.test.items[mine][bakers.test.clean_click[mine]]
        assert set(items[place][trial.relevant[place]]) == set(clicked)
        before = bakers.train.items[bakers.train.user == user]
        assert set(items[place][trial.masked[place]]) == set(before[before >= 0])


def test_users_and_items_of_different_streams_are_distinct_even_with_equal_ids(shop: Source, folder: Path) -> None:
    twin = shop_log(folder, "twin", ["home"], 10, 400)
    other = log_source(twin.log, twin.mapping)
    first, others = parts_of("shop", ["job=baker"], shop)
    strange = parts_of("twin", ["genre=war"], other)[0]
    task = open_task(first, [*others, strange], 0, folder, ITEM_ASPECTS)
    names = [task.source.catalogue.items[item].item_id for item in task.targets[1].items]
    assert sorted(names) == [f"twin/i{n}" for n in range(10)]
    assert {task.source.catalogue.users[user].user_id[:5] for user in task.targets[1].train.user} == {"twin/"}
    assert task.targets[1].train.items.max() == 19


def test_every_method_has_a_row_and_freezing_more_levels_trains_fewer_parameters(
    rows: dict[str, TransferRow], folder: Path
) -> None:
    methods = [method for method in METHODS if method not in SEQUENCE_METHODS]
    assert list(rows) == methods
    assert rows[ZERO_SHOT].trained == rows[POPULARITY].trained == 0
    trained = [rows[method].trained for method in FREEZE]
    assert sorted(trained) == trained
    assert 0 < trained[0] < trained[-1]
    assert all(0 <= row.hit <= 1 for method, row in rows.items() if method != KERNEL_LIVE)
    assert math.isnan(rows[KERNEL_LIVE].hit)
    written = json.loads((folder / "out" / "transfer.json").read_text())
    assert [row["method"] for row in written] == methods
    assert written[0]["log_loss"] is None


def test_a_second_call_pretrains_nothing_and_reports_the_same(
    rows: dict[str, TransferRow], comedies: Callable[[], list[TransferRow]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("lab.transfer.command.pretrain_on")
    assert repr(comedies()) == repr(list(rows.values()))


@pytest.mark.parametrize("encoder", ["sasrec", "bert4rec"])
def test_with_a_sequence_encoder_every_method_is_measured_and_peterrec_too(encoder: str, tmp_path: Path) -> None:
    wide = shop_log(tmp_path, "wide", ["home"], 100, 600)
    order = ComparisonOptions(tmp_path / "out", NamedStreams(log=wide.log, mapping=wide.mapping), seeds=1, quick=True)
    backbone = SMALL.changed(user_encoder=encoder, user_objective="clue")
    config = Config(cache_dir=tmp_path, backbone=backbone)
    made = run_transfer(config, order, source="wide", targets=["genre=comedy"], console=QUIET)
    assert tuple(row.method for row in made) == METHODS
    assert all(math.isfinite(row.request_auc) for row in made)


def test_histories_hold_events_of_the_first_half_of_source_and_target(task: TransferTask) -> None:
    comedy = task.targets[0]
    trial = TargetTrial.of(task, comedy, 0, HistorySpec(5))
    for asked in (trial.test, trial.catalogue):
        assert asked.past is not None and asked.own is not None
        for past, chunks in ((asked.past, (task.source.pretrain, comedy.train)), (asked.own, (comedy.train,))):
            for user in np.unique(asked.examples.user):
                moment = past.moment[np.flatnonzero(asked.examples.user == user)[0]]
                clicked = [
                    (time, item)
                    for chunk in chunks
                    for time, items, click in zip(chunk.time, chunk.items, chunk.click, strict=True)
                    for item in items[click]
                    if user in chunk.user[chunk.time == time]
                ]
                newest = [item for _, item in sorted(clicked)[-5:]]
                assert [item for item in past.item[moment] if item != PAD] == newest


def test_a_training_example_has_no_event_of_its_own_time_or_later(task: TransferTask) -> None:
    trial = TargetTrial.of(task, task.targets[0], 0, HistorySpec(5, delay_s=60.0))
    assert trial.train.past is not None
    events = trial.train.past.item != PAD
    assert (trial.train.past.age[events] > 60).all()
    assert events.any()


def test_without_a_user_encoder_no_histories_are_made(task: TransferTask) -> None:
    trial = TargetTrial.of(task, task.targets[0], 0)
    assert trial.test.past is trial.test.own is None


def test_the_table_lists_methods_that_differ_from_zero_shot_and_from_scratch(rows: dict[str, TransferRow]) -> None:
    seeds = [replace(row, seed=seed) for row in rows.values() for seed in (0, 1)]
    better = [
        replace(row, request_auc=0.9) if row.method == SCRATCH else replace(row, request_auc=0.6) for row in seeds
    ]
    text = markdown(better)
    assert f"- genre=comedy, AUC in requests: better than `{ZERO_SHOT}` `{SCRATCH}`, worse none" in text
    assert f"| {SCRATCH} | 0.9000 ±0.0000 |" in text
    assert interval([0.9, 0.9]).half_width == 0


@pytest.mark.parametrize(
    ("source", "targets", "says"),
    [
        ("shops", ["genre=war"], r"no stream 'shops': there are movielens-100k, .*and shop by --log; no script"),
        ("shop", [], "--targets names no target"),
        ("shop", ["shop"], "target 'shop' is the source itself"),
        ("shop:genre=war", ["genre=war"], "target 'genre=war' is the source itself"),
        ("shop", ["job=cook", "job=cook"], "target 'job=cook' is named twice"),
        ("genre=war", ["shop"], "'genre=war' names no part of a stream: write STREAM or STREAM:FIELD=VALUE"),
        ("shop", ["genre="], "'genre=' names no part"),
        (
            "shop",
            ["colour=red"],
            "shop has no field 'colour': its items have genre, its users job, and its re",
        ),
        ("shop", ["genre=opera"], r"'genre=opera': genre of shop is never 'opera'; it is comedy, war"),
        ("shop", ["region=north"], r"'region=north': region of shop is never 'north'"),
        ("shop:genre=war", ["scene=home", "scene=shorts"], r"source 'shop:genre=war', without .* has 0 examples"),
        ("no-drift", ["abrupt"], r"neither --source nor --targets names the log: it is called 'shop' here"),
    ],
)
def test_invalid_sources_and_targets_are_refused_by_name(
    shop: Source, folder: Path, source: str, targets: list[str], says: str
) -> None:
    with pytest.raises(TransferRefused, match=says):
        opened(shop, folder, source, targets)


def test_a_target_without_overlap_with_the_source_is_refused(shop: Source, folder: Path) -> None:
    says = r"'genre=comedy' has nothing in common with source 'shop'.*\(backbone.item_aspects: id, text\): no item"
    with pytest.raises(TransferRefused, match=says):
        opened(shop, folder, "shop", ["genre=comedy"], ("id", "text"))
    assert opened(shop, folder, "shop", ["job=baker"], ("id", "text")).targets


def test_a_target_that_is_too_small_is_refused(folder: Path) -> None:
    tiny = shop_log(folder, "tiny", ["home"], 12, 300)
    with pytest.raises(TransferRefused, match=r"target 'job=baker' has \d+ examples to learn from"):
        opened(log_source(tiny.log, tiny.mapping), folder, "tiny", ["job=baker"])


def test_a_target_without_a_stream_name_is_a_part_of_the_source_stream() -> None:
    first, (horror,) = parts_of("movielens-100k:genres=Drama", ["genres=Horror"])
    assert horror.stream is first.stream
    assert first.stream == movielens_source()


def test_an_incompatible_backbone_is_refused(tmp_path: Path) -> None:
    config = Config.model_validate({"backbone": {"tasks": "ctr_ctcvr"}})
    with pytest.raises(TransferRefused, match=r"backbone\.tasks is 'ctr_ctcvr'"):
        run_transfer(config, ComparisonOptions(tmp_path), source="movielens-100k", targets=["genres=War"])


def test_the_scene_of_a_target_does_not_occur_in_the_source(task: TransferTask) -> None:
    assert all((chunk.domain[:, 0] == 0).all() for one in task.targets for chunk in (one.train, one.test))
    assert (task.source.pretrain.domain[:, 0] > 0).all()
    assert np.unique(task.targets[0].train.domain[:, 2]).size >= 1
