"""What a group's reader logs about refused records."""

from __future__ import annotations

import pytest

from streaming.group.traffic_reader import TrafficReader, Widths


def test_logged_offsets_belong_to_the_logged_reason(caplog: pytest.LogCaptureFixture) -> None:
    reader = TrafficReader("main", "a backbone", Widths(1, 1, 1, 1, 1))
    reader.refuse(7, "undecodable", "junk")
    reader.refuse(8, "other_backbone", "an impression")
    assert "refused as undecodable" in caplog.messages[0] and "the last ones at [7]" in caplog.messages[0]
    assert "refused as other_backbone" in caplog.messages[1] and "the last ones at [8]" in caplog.messages[1]
