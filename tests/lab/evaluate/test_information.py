"""What the kernel takes up: read from a run's file, in tables and pictures, and nothing where a run counted none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.evaluate.information import SeedInformation, read_information
from lab.evaluate.information_plane import domain_table, information_table
from lab.evaluate.measures import WINDOWS
from lab.evaluate.plots import pictures
from lab.evaluate.report import EvaluationReport, StreamReport

NAN = float("nan")
RNG = np.random.default_rng(0)
EXAMPLES = np.full(60, 128)
ARRAYS: dict[str, Any] = {
    "examples": EXAMPLES,
    "compression_nats": np.full(60, 10.0),
    "matching_nats": RNG.gamma(2.0, size=60),
    "domain_matching_nats": RNG.gamma(2.0, size=(60, 2)),
    "domains": np.array(["period=day", "period=night"]),
}


def saved(path: Path, **changes: Any) -> Path:
    arrays = {name: value for name, value in {**ARRAYS, **changes}.items() if value is not None}
    np.savez(path / "iak.npz", logit=np.zeros(3), **arrays)
    return path / "iak.npz"


def read(path: Path, **changes: Any) -> SeedInformation:
    information = read_information(saved(path, **changes), 3)
    assert information is not None
    return information


def stream(name: str, *runs: SeedInformation) -> StreamReport:
    return StreamReport(name, 7_680, 90, 0.3, NAN, NAN, (), (), information=runs)


def test_nats_are_summed_and_divided_by_the_examples(tmp_path: Path) -> None:
    one = read(tmp_path)
    assert (one.seed, one.examples, one.compression) == (3, 7_680, 10.0)
    assert one.matching == pytest.approx(ARRAYS["matching_nats"].sum())
    assert one.per_example == pytest.approx(one.matching / 7_680)
    assert len(one.curve) == WINDOWS
    assert np.mean(one.curve) == pytest.approx(one.per_example)
    assert one.curve[0] == pytest.approx(ARRAYS["matching_nats"][:3].sum() / 384)
    assert list(one.domains) == ["period=day", "period=night"]
    assert one.domains["period=night"][-1] == pytest.approx(ARRAYS["domain_matching_nats"][-3:, 1].sum() / 384)


def test_compression_is_weighted_by_the_examples_of_a_batch(tmp_path: Path) -> None:
    examples, nats = EXAMPLES.copy(), np.full(60, 10.0)
    examples[0], nats[0] = 7_680, 0.0
    assert read(tmp_path, examples=examples, compression_nats=nats).compression == pytest.approx(10 * 59 / 119)


def test_fewer_batches_than_windows_leave_windows_without_a_figure(tmp_path: Path) -> None:
    short = {name: value[:3] for name, value in ARRAYS.items() if name != "domains"}
    one = read(tmp_path, **short)
    assert np.isfinite(one.curve).sum() == 3


def test_a_run_without_information_records_has_none(tmp_path: Path) -> None:
    assert read_information(saved(tmp_path, matching_nats=None), 0) is None
    assert read_information(saved(tmp_path, examples=np.zeros(60)), 0) is None
    assert read(tmp_path, domain_matching_nats=None, domains=None).domains == {}
    assert list(read(tmp_path, domains=None).domains) == ["domain 0", "domain 1"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"matching_nats": np.zeros(59)}, r"iak\.npz: matching_nats has shape \(59,\)"),
        ({"compression_nats": np.full(60, np.inf)}, "compression_nats is not finite"),
        ({"domain_matching_nats": np.zeros((2, 60))}, "domain_matching_nats has shape"),
        ({"domains": np.array(["one"])}, "domains does not name the columns"),
    ],
)
def test_arrays_of_other_shapes_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_information(saved(tmp_path, **changes), 0)


def test_the_tables_have_a_row_per_stream_and_per_domain(tmp_path: Path) -> None:
    one = read(tmp_path)
    head, body = information_table([stream("abrupt", one, one), stream("visits")])
    assert [dict(zip(head, cells, strict=True)) for cells in body] == [{
        "stream": "abrupt", "compression": "10.0000 ±0.0000",
        "matching per example": f"{one.per_example:.4f} ±0.0000",
        "matching in sum": f"{one.matching:,.0f}", "examples": "7,680",
    }]  # fmt: skip
    _, rows = domain_table(stream("abrupt", one))
    assert [cells[0] for cells in rows] == ["period=day", "period=night"]
    assert float(rows[0][1]) == pytest.approx(np.mean(one.domains["period=day"]), abs=1e-4)


def test_the_pictures_of_information_are_drawn_where_a_run_counted_it(tmp_path: Path) -> None:
    one = read(tmp_path)
    streams = (stream("a$b^$|_{<i>", one, one), stream("without"))
    report = EvaluationReport("", {"adapters": [], "seeds": []}, streams, (), {}, {}, {}, {}, {}, {}, {})
    drawn = pictures(report)
    assert {name for name in drawn if "information" in name} == {
        "information-plane.png", "information-a$b^$|_{<i>.png",
    }  # fmt: skip
