"""The status of a group, encoded and decoded."""

from __future__ import annotations

import json
import math

import pytest

from streaming.events.status import (
    ArmStatus,
    DomainStatus,
    GroupStatus,
    InvalidStatusError,
    decode_status,
    encode_status,
)

HOME = DomainStatus(
    stratum="scene=home",
    examples=1_200,
    verdict="drifting_handled",
    since=90.0,
    words="Interest drifts since 00:01 and the kernel follows.",
    advice="Nothing to do.",
    label_rate=0.2,
    arms={"frozen": ArmStatus(0.6, 0.6, 0.61, 1.3), "live": ArmStatus(0.5, 0.7, 0.7, 1.0)},
    expected_log_loss=0.5,
    evidence={"detector": "adwin", "excess": 0.1},
)
STATUS = GroupStatus("main", time=100.0, wall=101.5, examples=5_000, kernel_version=7, held=True, domains=[HOME])


def test_a_status_round_trips() -> None:
    assert decode_status(encode_status(STATUS)) == STATUS


def test_unknown_values_are_encoded_as_null() -> None:
    arms = {"live": ArmStatus(log_loss=math.nan, auc=math.inf)}
    domain = DomainStatus("group", 3, "too_little_data", 0.0, "w", "a", arms=arms, evidence={"psi": math.nan})
    data = encode_status(GroupStatus("main", 1.0, 2.0, 3, 0, domains=[domain]))
    encoded = json.loads(data)["domains"][0]
    assert encoded["arms"]["live"] == {"log_loss": None, "auc": None, "request_auc": None, "calibration": None}
    assert decode_status(data).domains[0].evidence == {"psi": None}


@pytest.mark.parametrize("data", [b"", b"null", b"{}", b'{"group": 1}', b"[" * 100_000, b"\xff"])
def test_bytes_that_are_not_a_status_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(InvalidStatusError, match="no status of a group"):
        decode_status(data)
