"""How a kernel group does, domain by domain, now and then: JSON on the topic `status`, so that a page can show it.

Written with a commit, at most every `processor.status_seconds`; kept for `topics.status_retention_h`. A status is a
look, not an event: none is missed where one is lost, for the next one says how things are.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

Evidence = Mapping[str, float | str | None]
"""Named figures behind a verdict; null is a figure that is not known."""


class ArmStatus(msgspec.Struct, frozen=True):
    """How an arm does over the recent examples of a domain; null is not known, as where nobody has clicked yet."""

    log_loss: float | None = None
    auc: float | None = None
    request_auc: float | None = None
    """AUC within requests."""
    calibration: float | None = None
    """Mean score over mean label; 1 is calibrated."""


class DomainStatus(msgspec.Struct, frozen=True):
    """One stratum: the group as a whole, or all of it that has one value of one facet."""

    stratum: str
    """`group`, or a facet and its value (`scene=home`)."""
    examples: int
    """Labelled examples so far."""
    verdict: str
    """A name of `model.drift.VerdictKind`."""
    since: float | None
    """Event time since when the verdict holds, seconds since the epoch; null before there was any traffic."""
    words: str
    """The verdict in a sentence."""
    advice: str
    """What to do, in a sentence."""
    label_rate: float | None = None
    """Clicks per item of the recent examples."""
    arms: Mapping[str, ArmStatus] = {}
    """By arm: frozen, live, candidate."""
    expected_log_loss: float | None = None
    """What the served scores say the log loss will be once the labels are there."""
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
    """One look at a kernel group, between two records."""

    group: str
    time: float
    """Event time up to which labels are known, seconds since the epoch."""
    wall: float
    """When it was looked at, by the processor's clock, seconds since the epoch."""
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
    """Whether requests are dropped unlearned because their feedback was not read."""
    label_delay_s: float | None = None
    """Median time from an impression to its feedback, of the recent feedback."""
    late_share: float | None = None
    """Share of the recent clicks that came after their window."""
    reference: str = ""
    """What drift is measured against: `pretraining`, `first_examples`; empty while there is nothing yet."""
    domains: list[DomainStatus] = []
    conversions: ConversionStatus | None = None
    """Null for a backbone of clicks alone."""


class InvalidStatusError(Exception):
    """Bytes that hold no status."""


_decoder = msgspec.json.Decoder(GroupStatus)


def encode_status(status: GroupStatus) -> bytes:
    """A status as JSON; what is not finite becomes null."""
    return msgspec.json.encode(status)


def decode_status(data: bytes) -> GroupStatus:
    """One status. Raises InvalidStatusError."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidStatusError(f"no status of a group: {error}") from error
