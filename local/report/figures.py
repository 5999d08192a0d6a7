"""The figures of a run: pure functions from the log, the scorer's swaps and the client's own clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from local.report.drift import AnnouncedSpan
from local.report.stream import Floats, ScoredStream
from local.report.verdicts import VerdictSpan
from model import evaluation

QUARTERS = 4


@dataclass(frozen=True, slots=True)
class KernelUse:
    """One kernel that a scorer took into use."""

    version: int
    newest_event_time: float
    """Event time of the newest example in the kernel, seconds since the epoch."""
    taken_at: float
    """Wall-clock time at which the scorer served with it, seconds since the epoch."""

    @property
    def freshness_s(self) -> float:
        """Seconds from the newest example's event time to the kernel's use."""
        return self.taken_at - self.newest_event_time


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources used by a process."""

    memory_bytes: int
    """Resident."""
    cpu_s: float
    """Processor time since its start, user and system."""


@dataclass(frozen=True)
class Arm:
    """Quality of one arm over the whole stream, scored before learning."""

    request_auc: float
    """AUC within each request that holds both labels, weighted by its items: what a ranker is for."""
    ndcg_5: float
    """NDCG at 5, mean over the same requests."""
    ndcg_10: float
    auc: float
    log_loss: float
    calibration: float
    """Mean score over mean label; 1 is calibrated."""
    normalised_entropy: float
    """Log loss over that of the mean label; below 1 is better than a constant."""
    request_auc_quarters: tuple[float, ...]
    """AUC within requests in each quarter of the stream, by requests."""
    auc_quarters: tuple[float, ...]
    """AUC in each quarter of the stream, by examples."""
    log_loss_quarters: tuple[float, ...]

    @classmethod
    def of(cls, stream: ScoredStream, scores: Floats) -> Arm:
        """Measures `scores`, `(n,)` probabilities, against the stream's labels; not-a-number where undefined."""
        quarters = _quarters(stream.label, scores)
        return cls(
            request_auc=evaluation.grouped_auc(stream.label, scores, stream.request),
            ndcg_5=evaluation.grouped_ndcg(stream.label, scores, stream.request, 5),
            ndcg_10=evaluation.grouped_ndcg(stream.label, scores, stream.request, 10),
            auc=evaluation.auc(stream.label, scores),
            log_loss=evaluation.log_loss(stream.label, scores),
            calibration=evaluation.calibration(stream.label, scores),
            normalised_entropy=evaluation.normalised_entropy(stream.label, scores),
            request_auc_quarters=_request_quarters(stream, scores),
            auc_quarters=tuple(evaluation.auc(label, score) for label, score in quarters),
            log_loss_quarters=tuple(evaluation.log_loss(label, score) for label, score in quarters),
        )


@dataclass(frozen=True)
class ConversionArm:
    """Quality of one arm's predictions of conversions, by its click probability times its CVR."""

    request_auc_ctcvr: float
    """CTCVR-AUC within each request that holds a conversion and something else, weighted by its items."""
    auc_ctcvr: float
    log_loss_cvr: float
    """Log loss of CVR, on the clicked items."""

    @classmethod
    def of(cls, stream: ScoredStream, label: Floats, ctr: Floats, cvr: Floats) -> ConversionArm:
        """Measures probabilities of a click and of a conversion once clicked, `(n,)`; not-a-number where undefined."""
        ctcvr, clicked = ctr * cvr, stream.label > 0
        return cls(
            request_auc_ctcvr=evaluation.grouped_auc(label, ctcvr, stream.request),
            auc_ctcvr=evaluation.auc(label, ctcvr),
            log_loss_cvr=evaluation.log_loss(label[clicked], cvr[clicked]),
        )


@dataclass(frozen=True)
class ConversionFigures:
    """Conversions of a run, whose backbone was trained on them."""

    frozen: ConversionArm
    live: ConversionArm
    by_clicks: ConversionArm
    """The live arm's clicks with the frozen arm's CVR: what of the live arm's gain is the clicks' alone."""
    conversions: int
    lists: int
    """Requests that hold a conversion and something else."""

    @classmethod
    def of(cls, stream: ScoredStream) -> ConversionFigures | None:
        """The figures; None for a backbone without conversions."""
        conversions = stream.conversions
        if conversions is None:
            return None
        return cls(
            frozen=ConversionArm.of(stream, conversions.label, stream.frozen, conversions.frozen),
            live=ConversionArm.of(stream, conversions.label, stream.live, conversions.live),
            by_clicks=ConversionArm.of(stream, conversions.label, stream.live, conversions.frozen),
            conversions=int(conversions.label.sum()),
            lists=evaluation.mixed_groups(conversions.label, stream.request),
        )


@dataclass(frozen=True)
class Run:
    """Figures that are not in the log, measured by the player of the stream."""

    examples_learned: int
    """Examples the processor has learned from."""
    learn_seconds: float
    """Seconds from the first request to the last learned example."""
    latencies_s: Sequence[float]
    """Per answered request, seen by the client, seconds."""
    swaps: Sequence[KernelUse]
    kernels_published: int
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    """Refused records by reason."""
    join_dropped: Mapping[str, int] = field(default_factory=dict)
    """Records the join could not use, by reason."""
    requests_failed: int = 0
    impressions_missing: int = 0
    """Answered requests that are missing in the log."""
    usage: Mapping[str, Usage] = field(default_factory=dict)
    """Resources used by each process until the stream ended."""
    backbone_unchanged: bool = True
    drift: Sequence[AnnouncedSpan] = ()
    """Drift that was announced, by begin."""
    verdicts: Sequence[VerdictSpan] = ()
    """Verdicts of the drift monitor, by begin."""
    seconds_total: float = math.nan


@dataclass(frozen=True)
class RunReport:
    """All figures of a run."""

    frozen: Arm
    live: Arm
    run: Run
    requests: int
    items_served: int
    lists: int
    """Requests that hold both labels: the ones whose order is judged."""
    clicks: int
    orphan_feedback: int
    drift_spans: Sequence[Mapping[str, Any]] = ()
    """Each announced span with the figures of both arms inside it."""
    verdicts: Sequence[Mapping[str, Any]] = ()
    """Verdicts of the drift monitor, each with its first and last item."""
    conversions: ConversionFigures | None = None
    """None for a backbone without conversions."""

    @property
    def examples_per_second(self) -> float:
        """Examples learned end to end per second of the stream."""
        return self.run.examples_learned / self.run.learn_seconds if self.run.learn_seconds > 0 else math.nan

    def freshness_s(self, quantile: float) -> float:
        """A quantile (0 to 1) of the freshness over all swaps, seconds."""
        return _quantile([swap.freshness_s for swap in self.run.swaps], quantile)

    def score_ms(self, quantile: float) -> float:
        """A quantile (0 to 1) of the scoring latency seen by the client, milliseconds."""
        return 1_000 * _quantile(self.run.latencies_s, quantile)

    def as_json(self) -> dict[str, Any]:
        """Flat keys for programs; not-a-number becomes null."""
        run = self.run
        values: dict[str, Any] = {
            "examples": run.examples_learned,
            "examples_per_second": self.examples_per_second,
            "freshness_p50_s": self.freshness_s(0.5),
            "freshness_p99_s": self.freshness_s(0.99),
            "score_p50_ms": self.score_ms(0.5),
            "score_p99_ms": self.score_ms(0.99),
            "kernels_published": run.kernels_published,
            "kernels_taken": len(run.swaps),
            "dead_letters": sum(run.dead_letters.values()),
            "dead_letter_reasons": dict(run.dead_letters),
            "memory_mb": {name: round(used.memory_bytes / 1e6) for name, used in run.usage.items()},
            "cpu_s": {name: round(used.cpu_s, 1) for name, used in run.usage.items()},
            "join_dropped": dict(run.join_dropped),
            "backbone_unchanged": run.backbone_unchanged,
            "seconds_total": run.seconds_total,
            "requests": self.requests,
            "requests_failed": run.requests_failed,
            "impressions_missing": run.impressions_missing,
            "items_served": self.items_served,
            "lists": self.lists,
            "clicks": self.clicks,
            "orphan_feedback": self.orphan_feedback,
            "drift_spans": [dict(span) for span in self.drift_spans],
            "verdicts": [dict(span) for span in self.verdicts],
            "request_auc_gain": self.live.request_auc - self.frozen.request_auc,
            "auc_gain": self.live.auc - self.frozen.auc,
        }
        for arm, measured in (("frozen", self.frozen), ("live", self.live)):
            values |= {f"{name}_{arm}": value for name, value in asdict(measured).items()}
        if self.conversions is not None:
            values |= {"conversions": self.conversions.conversions, "lists_ctcvr": self.conversions.lists}
            for arm in ("frozen", "live", "by_clicks"):
                figures = asdict(getattr(self.conversions, arm))
                values |= {f"{name}_{arm}": value for name, value in figures.items()}
        return {key: _jsonable(value) for key, value in sorted(values.items())}


def build_report(stream: ScoredStream, run: Run) -> RunReport:
    """The report of a run from its log and what was measured beside it."""
    return RunReport(
        frozen=Arm.of(stream, stream.frozen),
        live=Arm.of(stream, stream.live),
        run=run,
        requests=len(stream.request_ids),
        items_served=len(stream),
        lists=evaluation.mixed_groups(stream.label, stream.request),
        clicks=int(stream.label.sum()),
        orphan_feedback=stream.orphan_feedback,
        drift_spans=tuple(span.as_json(stream) for span in run.drift),
        verdicts=tuple(span.as_json(stream) for span in run.verdicts),
        conversions=ConversionFigures.of(stream),
    )


def _quarters(label: Floats, scores: Floats) -> list[tuple[Floats, Floats]]:
    return list(zip(np.array_split(label, QUARTERS), np.array_split(scores, QUARTERS), strict=True))


def _request_quarters(stream: ScoredStream, scores: Floats) -> tuple[float, ...]:
    requests = np.array_split(np.unique(stream.request), QUARTERS)
    inside = [np.isin(stream.request, part) for part in requests]
    return tuple(evaluation.grouped_auc(stream.label[part], scores[part], stream.request[part]) for part in inside)


def _quantile(values: Sequence[float], quantile: float) -> float:
    return float(np.quantile(values, quantile)) if len(values) else math.nan


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, tuple | list):
        return [_jsonable(part) for part in value]
    if isinstance(value, dict):
        return {key: _jsonable(part) for key, part in value.items()}
    return value
