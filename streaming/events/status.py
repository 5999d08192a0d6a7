"""Periodic status of a kernel group, by domain: JSON on the topic `status`, shown by the scorer's page.

It is written with a commit, at most every `processor.status_seconds`, and kept for `topics.status_retention_h`. A lost
status does no harm, because the next one describes the whole state again.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

Evidence = Mapping[str, float | str | None]
"""Named figures behind a verdict; null if unknown."""


class ArmStatus(msgspec.Struct, frozen=True):
    """Performance of an arm on the recent examples of a domain; null if unknown, as before the first click."""

    log_loss: float | None = None
    auc: float | None = None
    request_auc: float | None = None
    """AUC within requests."""
    calibration: float | None = None
    """Mean score over mean label; 1 is calibrated."""


class DomainStatus(msgspec.Struct, frozen=True):
    """One stratum: the whole group, or the part of it with one value of one facet."""

    stratum: str
    """`group`, or a facet and its value (`scene=home`)."""
    examples: int
    """Labelled examples so far."""
    verdict: str
    """The value of a `model.drift.VerdictKind`."""
    since: float | None
    """Event time since which the verdict holds, seconds since the epoch; null before any traffic."""
    words: str
    """The verdict in a sentence."""
    advice: str
    """What to do, in a sentence."""
    label_rate: float | None = None
    """Clicks per item of the recent examples."""
    arms: Mapping[str, ArmStatus] = {}
    """By arm: frozen, live, candidate."""
    expected_log_loss: float | None = None
    """Log loss expected from the served scores, before the labels arrive."""
    expected_auc: float | None = None
    evidence: Evidence = {}


class ConversionStatus(msgspec.Struct, frozen=True):
    """How the conversion task of a group does, over the recent clicks that came to it with final labels."""

    learned: int
    """Clicks that taught it since this processor took the group over."""
    rate: float | None = None
    """Conversions per click; null before the first."""
    arms: Mapping[str, ArmStatus] = {}
    """Of the probability of a conversion once clicked, by arm: frozen, live, candidate."""
    held: str = ""
    """Why the gate lets no new kernel of conversions out; empty while it does."""
    set_aside: list[str] = []
    """Strata whose conversions are not believed."""


class GroupStatus(msgspec.Struct, frozen=True):
    """The status of a kernel group, taken between two records."""

    group: str
    time: float
    """Event time up to which labels are known, seconds since the epoch."""
    wall: float
    """Wall-clock time of the status by the processor's clock, seconds since the epoch."""
    examples: int
    """Examples the kernel has learned from."""
    kernel_version: int
    """The newest published version; 0 before the first."""
    newest_event_time: float | None = None
    """Event time of the newest example in the kernel; null before the first."""
    held: bool = False
    """Whether the gate holds publication."""
    learning: bool = True
    """False while an operator has stopped learning."""
    paused: bool = False
    """Whether requests are dropped because their feedback has not been read."""
    label_delay_s: float | None = None
    """Median time from an impression to its feedback, of the recent feedback."""
    late_share: float | None = None
    """Share of the recent clicks that came after their window."""
    reference: str = ""
    """The drift reference: `pretraining`, `first_examples`; empty if there is none yet."""
    domains: list[DomainStatus] = []
    conversions: ConversionStatus | None = None
    """Null for a backbone of clicks alone."""


class InvalidStatusError(Exception):
    """The bytes are no status."""


_decoder = msgspec.json.Decoder(GroupStatus)


def encode_status(status: GroupStatus) -> bytes:
    """A status as JSON; non-finite numbers become null."""
    return msgspec.json.encode(status)


def decode_status(data: bytes) -> GroupStatus:
    """One status. Raises InvalidStatusError."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidStatusError(f"no status of a group: {error}") from error
