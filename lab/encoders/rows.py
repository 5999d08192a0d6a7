"""Trials put together: every encoder against none, paired by seed, and what of the kernel's gain is left beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lab.encoders.trial import ARMS, CLUE, FROZEN, FROZEN_LIVE, NONE, OVER_FROZEN, OVER_LIVE, EncoderTrial
from lab.evaluate.slices import slice_figures, slice_sizes
from lab.intervals import Interval, interval

FIGURES = ("request_auc", "auc", "log_loss")
FALLING = ("log_loss",)
"""Figures of which less is better."""


@dataclass(frozen=True)
class ArmRow:
    """One arm of an encoder on one stream, over the seeds."""

    encoder: str
    arm: str
    figures: dict[str, Interval]
    """Figures by name in `FIGURES`."""
    above: dict[str, Interval]
    """Differences from the same arm of encoder `none`, paired by seed."""

    @property
    def better(self) -> bool:
        """Beyond the interval, in the order of requests and in log loss."""
        return self.above["request_auc"].low > 0 and self.above["log_loss"].high < 0


@dataclass(frozen=True)
class KernelShare:
    """Gains of a live history, of the kernel and of both above the frozen model of `none`."""

    encoder: str
    figure: str
    history: Interval
    kernel: Interval
    both: Interval
    on_top: Interval
    """The kernel above the frozen model with the live history."""


@dataclass(frozen=True)
class EncoderCost:
    """Cost of an encoder, and the share of requests with a history, over the seeds."""

    encoder: str
    request_ms: Interval
    request_ms_above: Interval
    pretrain_s: Interval
    with_history: float
    """Share of the live requests whose user has a live history; `left` the share with one from the pretraining half."""
    left: float


@dataclass(frozen=True)
class UserSlices:
    """An arm of one encoder above the same arm of another, in slices by users."""

    encoder: str
    against: str
    arm: str
    examples: dict[str, float]
    """Number of examples in each slice, mean over the seeds."""
    above: dict[str, dict[str, Interval]]
    """Differences by figure and slice, paired by seed."""


@dataclass(frozen=True)
class StreamOfEncoders:
    """All encoders on one stream."""

    stream: str
    arms: tuple[ArmRow, ...]
    shares: tuple[KernelShare, ...]
    costs: tuple[EncoderCost, ...]
    slices: tuple[UserSlices, ...]


@dataclass(frozen=True)
class EncoderReport:
    """The report of `driftline evaluate --user-encoders`: arms, kernel shares and costs by stream."""

    seeds: tuple[int, ...]
    delay_s: float
    streams: tuple[StreamOfEncoders, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as plain values for `json.dumps`."""
        plain: dict[str, Any] = asdict(self)
        for stream, row in zip(plain["streams"], self.streams, strict=True):
            stream["better_than_none"] = {arm: better(row, arm) for arm in (FROZEN_LIVE, OVER_LIVE)}
        return plain


def better(stream: StreamOfEncoders, arm: str) -> list[str]:
    """Encoders whose arm is better than that of `none`, beyond the interval, in requests and in log loss."""
    return [row.encoder for row in stream.arms if row.arm == arm and row.better]


def report_of(trials: Sequence[EncoderTrial], delay_s: float) -> EncoderReport:
    """The report on all streams, encoders and seeds, at one delay."""
    streams = dict.fromkeys(trial.stream for trial in trials)
    return EncoderReport(
        seeds=tuple(sorted({trial.seed for trial in trials})),
        delay_s=delay_s,
        streams=tuple(_stream(name, [trial for trial in trials if trial.stream == name]) for name in streams),
    )


def _stream(name: str, trials: Sequence[EncoderTrial]) -> StreamOfEncoders:
    of = {
        encoder: sorted((trial for trial in trials if trial.encoder == encoder), key=lambda trial: trial.seed)
        for encoder in dict.fromkeys(trial.encoder for trial in trials)
    }
    none = of[NONE]
    arms = [
        ArmRow(
            encoder,
            arm,
            {figure: interval(_values(of_encoder, arm, figure)) for figure in FIGURES},
            {figure: _difference(of_encoder, arm, none, _LIKE[arm], figure) for figure in FIGURES},
        )
        for encoder, of_encoder in of.items()
        for arm in ARMS
        if arm in of_encoder[0].figures
    ]
    shares = [
        KernelShare(
            encoder,
            figure,
            history=_difference(of_encoder, FROZEN_LIVE, none, FROZEN, figure),
            kernel=_difference(none, OVER_FROZEN, none, FROZEN, figure),
            both=_difference(of_encoder, OVER_LIVE, none, FROZEN, figure),
            on_top=_difference(of_encoder, OVER_LIVE, of_encoder, FROZEN_LIVE, figure),
        )
        for encoder, of_encoder in of.items()
        if encoder != NONE
        for figure in FIGURES
    ]
    costs = tuple(_cost(of_encoder, none) for of_encoder in of.values())
    return StreamOfEncoders(name, tuple(arms), tuple(shares), costs, tuple(_slices(of)))


def _slices(of: Mapping[str, Sequence[EncoderTrial]]) -> Iterator[UserSlices]:
    """Both arms with a live history of every encoder against none, and with CLUE against the same encoder without."""
    for encoder, of_encoder in of.items():
        plain = encoder.removesuffix(CLUE)
        for against in dict.fromkeys([NONE, *([plain] if plain in of else [])]):
            for arm in (FROZEN_LIVE, OVER_LIVE):
                if encoder == against:
                    continue
                mine = {trial.seed: trial.slices[arm] for trial in of_encoder}
                like = _LIKE[arm] if against == NONE else arm
                theirs = {trial.seed: trial.slices[like] for trial in of[against]}
                yield UserSlices(encoder, against, arm, slice_sizes(mine), slice_figures(mine, above=theirs))


_LIKE = {FROZEN: FROZEN, FROZEN_LIVE: FROZEN, OVER_FROZEN: OVER_FROZEN, OVER_LIVE: OVER_FROZEN}


def _cost(trials: Sequence[EncoderTrial], baseline: Sequence[EncoderTrial]) -> EncoderCost:
    return EncoderCost(
        trials[0].encoder,
        interval([trial.request_ms for trial in trials]),
        interval([trial.request_ms - base.request_ms for trial, base in zip(trials, baseline, strict=True)]),
        interval([trial.pretrain_s for trial in trials if trial.pretrain_s is not None]),
        with_history=interval([trial.with_history[FROZEN_LIVE] for trial in trials]).mean,
        left=interval([trial.with_history[FROZEN] for trial in trials]).mean,
    )


def _values(trials: Sequence[EncoderTrial], arm: str, figure: str) -> list[float]:
    return [float(getattr(trial.figures[arm], figure)) for trial in trials]


def _difference(
    trials: Sequence[EncoderTrial], arm: str, baseline: Sequence[EncoderTrial], baseline_arm: str, figure: str
) -> Interval:
    """The mean difference of a figure between two arms, paired by seed, with its interval."""
    both = zip(_values(trials, arm, figure), _values(baseline, baseline_arm, figure), strict=True)
    return interval([mine - theirs for mine, theirs in both])
