"""The evaluation from end to end on small streams, and its parts one by one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import features.streams.sources as sources_module
import streaming.evaluate.tune as tune_module
import streaming.evaluate.work as work_module
from features.config import LiveConfig
from features.streams import RealItems, ScriptedStream, StreamError
from features.streams.sources import Source, choose
from features.streams.stream import DriftSpan
from model.adapters import ADAPTERS
from model.adapters.closed_form import ClosedForm
from model.config import BackboneConfig, KernelConfig, LearnerConfig, PretrainConfig
from streaming.config import Config
from streaming.evaluate.compare import forgetting, interval, over_streams, paired, recovered, windows_to_half
from streaming.evaluate.measures import Measures, measure, returns
from streaming.evaluate.plan import Plan, deciding_files, make_plan
from streaming.evaluate.prepare import Lab, LabConfig, Prepared, make_lab, prepare
from streaming.evaluate.prequential import Outcome, run, schedule, stream_batch
from streaming.evaluate.report import make_report, measure_seed
from streaming.evaluate.work import ensure_lab, load_run, run_stream
from tests.features.streams.worlds import REAL, script

torch.set_num_threads(1)
TEXT = 6
SMALL = BackboneConfig(
    width=16, id_width=8, sparse_width=4, content_width=4, domain_width=4, text_width=TEXT,
    experts=2, expert_hidden=16, expert_width=8, tower_hidden=8,
)  # fmt: skip
LAB = LabConfig(SMALL, PretrainConfig(epochs=2, batch_size=256), LiveConfig(), 8.0, 600.0, 64, 1)
DRIFT = "[{kind: taste, at: 0.3, until: 0.7}]"


def texts(values: Any) -> Any:
    return np.random.default_rng(0).normal(size=(len(values), TEXT)).astype(np.float32)


def small(events: str = DRIFT, **keys: Any) -> ScriptedStream:
    return ScriptedStream(script(events, requests=300, pretrain_requests=300, users=40, **keys), REAL)


@pytest.fixture(scope="module")
def lab() -> Lab:
    """The backbone of all small streams: their first halves are the same."""
    return make_lab(small(), LAB, texts, 0)


@pytest.fixture(scope="module")
def prepared(lab: Lab) -> tuple[ScriptedStream, Prepared]:
    stream = small()
    return stream, prepare(stream, lab, LAB)


def test_the_logged_frozen_logit_is_that_of_the_rounded_representation(
    prepared: tuple[ScriptedStream, Prepared], lab: Lab
) -> None:
    _, data = prepared
    batch = stream_batch(data, slice(0, 50))
    with torch.no_grad():
        logit = lab.backbone.predict(batch.micro.x, batch.micro.domain)[:, 0]
    torch.testing.assert_close(logit, batch.micro.frozen_logit)


def test_live_features_are_blind_to_what_is_not_decided_yet(
    prepared: tuple[ScriptedStream, Prepared], lab: Lab
) -> None:
    stream, data = prepared
    known = slice(0, -1)  # the last feature is the ridge's deviation: not zero without any evidence
    assert not data.live[data.batch == 0, known].any()
    assert data.live[data.batch == data.batches - 1, known].any()
    flipped = small()
    blocks = list(flipped.chunks("live"))
    late = blocks[0].rows(np.arange(len(blocks[0])))
    cut = 200
    click = late.click.copy()
    click[cut:] ^= True
    changed = replace(late, click=click)
    flipped.chunks = lambda half, requests=4096: iter([changed]) if half == "live" else stream.chunks(half, requests)  # type: ignore[method-assign]
    again = prepare(flipped, lab, LAB)
    first_changed = data.batch[data.request >= cut][0]
    untouched = data.batch <= first_changed
    assert np.array_equal(again.live[untouched], data.live[untouched])
    assert not np.array_equal(again.live[~untouched], data.live[~untouched])


def test_a_click_after_the_window_is_lost_to_training_but_not_to_the_measures(lab: Lab) -> None:
    stream = small("[{kind: label_delay, at: 0, mean_s: 100000}]")
    data = prepare(stream, lab, LAB)
    assert data.label.mean() < 0.1 * data.truth.mean()


def test_no_label_is_learned_before_it_is_known(prepared: tuple[ScriptedStream, Prepared]) -> None:
    _, data = prepared
    seen = []
    for number, (scored, parts) in enumerate(schedule(data, 64)):
        assert (data.batch[scored] == number).all()
        for part in parts:
            assert len(part) == 64
            assert (data.decided[part] <= number).all()
            seen.append(part)
    learned = np.concatenate(seen)
    assert len(np.unique(learned)) == len(learned)
    assert len(learned) > 0.8 * len(data)


class Recorder:
    """Scores by how often it has learned."""

    parameters = state_bytes = 1

    def __init__(self) -> None:
        self.learned = 0

    def score(self, batch: Any) -> torch.Tensor:
        return torch.full((len(batch),), float(self.learned))

    def learn(self, batch: Any) -> None:
        self.learned += 1


class Broken(Recorder):
    def score(self, batch: Any) -> torch.Tensor:
        return torch.full((len(batch),), float("nan"))


def test_every_batch_is_scored_before_it_is_learned(prepared: tuple[ScriptedStream, Prepared]) -> None:
    _, data = prepared
    outcome = run(Recorder(), data, 64)
    assert (outcome.logit[data.batch == 0] == 0).all()
    assert (np.diff(outcome.logit) >= 0).all()
    assert outcome.logit[-1] > 10


def test_an_adapter_that_diverges_is_named(prepared: tuple[ScriptedStream, Prepared]) -> None:
    with pytest.raises(FloatingPointError, match=r"batch 0: .*learning rate is too high"):
        run(Broken(), prepared[1], 64)


def test_an_oracle_is_the_best_on_every_measure(prepared: tuple[ScriptedStream, Prepared]) -> None:
    stream, data = prepared
    oracle = np.log(data.probability / (1 - data.probability))
    best = measure(data, oracle, stream.drift_spans, stream.catalogue.space)
    still = measure(data, data.frozen_logit, stream.drift_spans, stream.catalogue.space)
    for name in ("auc", "grouped_auc", "drift_auc", "returned", "before"):
        assert getattr(best, name) > getattr(still, name)
    assert best.log_loss < still.log_loss
    assert best.normalised_entropy < 1
    assert best.calibration == pytest.approx(1, abs=0.12)
    assert len(best.curve) == 20
    assert set(best.domains) >= {"scene=home", "region=north", "period=evening"}
    assert list(best.spans) == ["taste"]


def test_returns_are_the_tenth_after_an_old_taste_came_back(prepared: tuple[ScriptedStream, Prepared]) -> None:
    stream, data = prepared
    (mask,) = returns(data, stream.drift_spans)
    position = stream.clock.position(data.time[mask])
    assert position.min() >= 0.7
    assert position.max() < 0.81
    stays = DriftSpan("x", "taste", 0.0, 1.0, 0.0, returns=False)
    assert returns(data, [stays]) == []


def test_around_a_return_the_true_probabilities_count_and_not_the_clicks(
    prepared: tuple[ScriptedStream, Prepared],
) -> None:
    stream, data = prepared
    other = replace(data, truth=1 - data.truth)
    first, second = (
        measure(one, data.frozen_logit, stream.drift_spans, stream.catalogue.space) for one in (data, other)
    )
    assert first.auc != second.auc
    assert (first.before, first.returned) == (second.before, second.returned)
    unknown = replace(other, probability=np.full_like(data.probability, np.nan))
    assert measure(unknown, data.frozen_logit, stream.drift_spans, stream.catalogue.space).before != first.before


def test_a_level_that_moves_from_window_to_window_costs_auc_but_none_within_windows(
    prepared: tuple[ScriptedStream, Prepared],
) -> None:
    stream, data = prepared
    window = np.concatenate([np.full(len(part), n) for n, part in enumerate(np.array_split(np.arange(len(data)), 20))])
    oracle = np.log(data.probability / (1 - data.probability))
    still, shaken = (
        measure(data, logit.astype(np.float32), stream.drift_spans, stream.catalogue.space)
        for logit in (oracle, oracle + 5 * (window % 2))
    )
    assert shaken.auc < still.auc - 0.02
    assert shaken.windowed_auc == pytest.approx(still.windowed_auc, abs=1e-3)


def of(auc: float, **changes: Any) -> Measures:
    values = {
        "auc": auc, "grouped_auc": auc, "log_loss": 0.5, "normalised_entropy": 0.9, "calibration": 1.0,
        "curve": (auc,) * 20, "log_loss_curve": (0.5,) * 20, "drift_auc": auc, "domains": {}, "spans": {},
        "returned": auc, "before": auc, "windowed_auc": auc,
    }  # fmt: skip
    return Measures(**{**values, **changes})


def test_intervals_are_students() -> None:
    found = interval([0.1, 0.2, 0.3, float("nan")])
    assert found.mean == pytest.approx(0.2)
    assert found.half_width == pytest.approx(4.303 * 0.1 / np.sqrt(3), rel=1e-3)
    assert (found.low, found.high) == (found.mean - found.half_width, found.mean + found.half_width)
    assert np.isnan(interval([]).mean)
    assert np.isnan(interval([1.0]).half_width)


def test_differences_are_paired_by_seed() -> None:
    runs = {"a": {0: of(0.8), 1: of(0.6)}, "frozen": {0: of(0.7), 1: of(0.5), 2: of(0.1)}}
    found = paired(runs, "a", "frozen")
    assert found.mean == pytest.approx(0.1)
    assert found.half_width == pytest.approx(0.0, abs=1e-9)
    both = over_streams({"s": runs, "t": runs}, "a", "frozen")
    assert both.mean == pytest.approx(0.1)


def test_the_recovered_share_is_relative_to_full_fine_tuning() -> None:
    runs = {"frozen": {0: of(0.70)}, "full": {0: of(0.74)}, "a": {0: of(0.73)}}
    assert recovered(runs, "a") == pytest.approx(0.75)
    assert recovered(runs, "full") == pytest.approx(1)
    assert np.isnan(recovered({**runs, "full": {0: of(0.701)}}, "a"))


def test_forgetting_is_the_lead_lost_when_the_old_taste_returns() -> None:
    runs = {
        "frozen": {0: of(0.7, before=0.8, returned=0.8)},
        "a": {0: of(0.7, before=0.81, returned=0.78)},
    }
    assert forgetting(runs, "a").mean == pytest.approx(0.03)
    assert forgetting(runs, "frozen").mean == pytest.approx(0)


def test_half_is_reached_in_the_window_where_the_curve_crosses() -> None:
    still = {0: of(0.7)}
    full = {0: of(0.7, curve=(0.7,) * 8 + (0.8,) * 12)}
    slow = {0: of(0.7, curve=(0.7,) * 12 + (0.8,) * 8)}
    runs = {"frozen": still, "full": full, "slow": slow}
    assert windows_to_half(runs, "full", 5, 20) == 4
    assert windows_to_half(runs, "slow", 5, 20) == 8
    assert windows_to_half(runs, "frozen", 5, 20) is None


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Plan:
    """A plan of two small scripted streams over made-up items, with made-up text vectors."""
    monkeypatch.setattr(sources_module, "fetch", lambda cache, *_, **__: cache)
    monkeypatch.setattr(sources_module, "load", lambda path: path)
    monkeypatch.setattr(RealItems, "of", staticmethod(lambda data, config: REAL))
    monkeypatch.setattr(work_module, "text_vectors", lambda plan, values: texts(values))
    keys: dict[str, Any] = {"requests": 300, "pretrain_requests": 300, "users": 40}
    found = [Source(n, script=script(e, **keys).model_copy(update={"name": n})) for n, e in
             (("drift", DRIFT), ("no-drift", "[]"))]  # fmt: skip
    plan = make_plan(found, ("full", "live-head", "iak-d"), 2, tmp_path, tmp_path, quick=False,
                     kernel=KernelConfig(latent=4, hidden=8), learner=LearnerConfig(rehearsal_steps=1))  # fmt: skip
    return replace(plan, lab=LAB)


def test_a_plan_runs_from_backbones_to_the_page_and_goes_on_where_it_stopped(tiny: Plan, tmp_path: Path) -> None:
    from streaming.evaluate.command import write
    from streaming.evaluate.tables import show

    told: list[tuple[str, str, int]] = []
    for source in tiny.sources:
        for seed in tiny.seeds:
            ensure_lab(tiny, source, seed)
            run_stream(tiny, source, seed, lambda *run: told.append(run))
    assert len(told) == 2 * 2 * 4
    backbones = list((tiny.work_dir / tiny.key / "backbones").iterdir())
    assert len(backbones) == 2, "streams with the same first half share a backbone"
    first = load_run(tiny, tiny.sources[0], 0, "full")
    path = tiny.folder(tiny.sources[0], 0) / "full.npz"
    stamp = path.stat().st_mtime_ns
    (tiny.folder(tiny.sources[0], 0) / "iak-d.npz").unlink()
    run_stream(tiny, tiny.sources[0], 0, lambda *run: None)
    assert path.stat().st_mtime_ns == stamp, "a finished run was made again"
    assert first.parameters > 5 * load_run(tiny, tiny.sources[0], 0, "iak-d").parameters > 0

    results = {(one.name, seed): measure_seed(tiny, one, seed) for one in tiny.sources for seed in tiny.seeds}
    report = make_report(tiny, results)
    write(report, tmp_path / "out")
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [stream["name"] for stream in data["streams"]] == ["drift", "no-drift"]
    rows = {row["adapter"]: row for row in data["streams"][0]["rows"]}
    assert rows["frozen"]["lead"]["mean"] == 0
    assert data["streams"][0]["oracle_auc"] > rows["full"]["auc"]["mean"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page.replace("https://", "http").split("<style>")[0]
    assert "| full |" in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "drift.png").read_bytes().startswith(b"\x89PNG")
    console = Console(record=True, width=250)
    show(report, console)
    assert "best possible AUC" in console.export_text()


def test_other_settings_or_code_never_reuse_work(tiny: Plan) -> None:
    other = replace(tiny, learner=tiny.learner.model_copy(update={"rehearsal_steps": 2}))
    assert len({tiny.key, other.key, replace(tiny, code="changed").key}) == 3


@pytest.mark.parametrize(
    ("suite", "names"),
    [(None, 9), ("standard", 9), ("scripted", 8), ("movielens-100k", 1)],
)
def test_suites_name_their_streams(suite: str | None, names: int) -> None:
    assert len(choose(suite, None, None, None, quick=False)) == names


def test_quick_is_two_short_streams() -> None:
    found = choose(None, None, None, None, quick=True)
    assert [source.name for source in found] == ["abrupt", "no-drift"]
    assert all(source.script is not None and source.script.requests <= 1500 for source in found)


def test_a_script_alone_is_the_only_stream(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine")
    assert [s.name for s in choose(None, path, None, None, quick=False)] == ["mine"]
    assert [s.name for s in choose(None, path, None, None, quick=True)] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nonsense", None, None, None), "no suite 'nonsense'; there are standard"),
        ((None, None, Path("x.csv"), None), "needs --mapping FILE"),
        ((None, None, None, "mind"), "name the folder you downloaded by --log FOLDER"),
        ((None, Path("gone.yaml"), None, None), r"gone\.yaml: No such file"),
    ],
)
def test_a_wrong_choice_is_refused_with_the_cure(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(StreamError, match=says):
        choose(*arguments, quick=False)


def test_an_unknown_adapter_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no adapter 'magic'; there are frozen"):
        make_plan([], ("magic",), 1, tmp_path, tmp_path, quick=False)


def test_river_learns_from_the_same_features(prepared: tuple[ScriptedStream, Prepared], lab: Lab) -> None:
    pytest.importorskip("river")
    from model.adapters import AdapterContext
    from streaming.evaluate.river_adapter import RIVER

    stream, data = prepared
    context = AdapterContext(
        lab.backbone,
        lab.profiles,
        lab.layout.width,
        stream.catalogue.space.sizes,
        KernelConfig(),
        LearnerConfig(),
        1,
        0,
    )
    outcome = run(RIVER.build(context, RIVER.rate), data, 64)
    assert np.array_equal(outcome.logit[data.batch == 0], data.frozen_logit[data.batch == 0])
    assert measure(data, outcome.logit, (), stream.catalogue.space).auc > 0.5


def test_tuning_takes_the_rate_with_the_largest_sum_of_gains() -> None:
    s, t = ("s", 1000), ("t", 1000)
    gains = {"a": {0.1: {s: 0.01, t: -0.03}, 1.0: {s: 0.0, t: 0.0}}, "b": {0.1: {s: 0.1, ("s", 1001): 0.3, t: 0.0}}}
    assert tune_module.best(gains) == {"a": 1.0, "b": 0.1}
    console = Console(record=True, width=80)
    tune_module.show(gains, console)
    text = console.export_text()
    assert "1*" in text
    assert "+0.2000" in text and "+0.1333" in text


def test_tuning_runs_every_rate_on_seeds_of_its_own(
    tiny: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_module, "choose", lambda *_, quick: [replace(tiny.sources[0], name="abrupt")])
    monkeypatch.setattr(tune_module, "make_plan", lambda *_, **__: replace(tiny, adapters=("closed-form",)))
    gains = tune_module.tune(Config(), tmp_path, ("closed-form",))
    rates = ADAPTERS["closed-form"].rates
    assert list(gains["closed-form"]) == list(rates)
    assert all(set(found) == {("abrupt", 1000), ("abrupt", 1001)} for found in gains["closed-form"].values())
    assert not set(tune_module.TUNING_SEEDS) & set(tiny.seeds)


def test_a_rate_that_breaks_an_adapter_loses_and_stops_nothing(
    tiny: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_or_break(adapter: ClosedForm, *rest: Any) -> Outcome:
        if adapter._path.half_life < 2e3:
            raise FloatingPointError("logits are not finite")
        return run(adapter, *rest)

    monkeypatch.setattr(tune_module, "run", run_or_break)
    monkeypatch.setattr(tune_module, "choose", lambda *_, quick: [replace(tiny.sources[0], name="abrupt")])
    monkeypatch.setattr(tune_module, "make_plan", lambda *_, **__: replace(tiny, adapters=("closed-form",)))
    gains = tune_module.tune(Config(), tmp_path, ("closed-form",))
    assert set(gains["closed-form"][1e3].values()) == {-math.inf}
    assert tune_module.best(gains)["closed-form"] > 1e3


def test_work_is_keyed_by_all_code_that_decides_it_and_by_none_that_only_reads_it() -> None:
    root = Path(__file__).parents[3]
    keyed = {str(path.relative_to(root)) for path in deciding_files()}
    assert keyed >= {"model/adapters/__init__.py", "features/streams/tables.py", "streaming/evaluate/prequential.py"}
    assert not keyed & {"streaming/evaluate/tables.py", "streaming/evaluate/goals.py"}
