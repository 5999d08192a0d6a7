"""Keys of the kernel log: kernel, snapshot and rows of a group are distinguished for any key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.live.layout import KINDS, Kind
from streaming.config import Config
from streaming.kernel_log.kernels import KernelRecord, newest_kernels
from streaming.kernel_log.keys import kernel_group, kernel_key, learner_key, row_key, split_row_key
from streaming.record_sizes import MAX_RECORD_BYTES
from streaming.topics import topics

ROOT = Path(__file__).resolve().parents[3]
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)


@given(NAMES)
def test_a_kernel_key_names_its_group_and_a_learner_key_none(group: str) -> None:
    assert kernel_group(kernel_key(group)) == group
    assert kernel_group(learner_key(group, 1)) is None


@pytest.mark.parametrize("key", [None, b"", b"main", b"main/kernels", b"kernel"])
def test_another_kind_of_key_names_no_group(key: bytes | None) -> None:
    assert kernel_group(key) is None


def test_a_kernel_key_that_is_not_text_is_not_an_error() -> None:
    assert kernel_group(b"\xff/kernel") == "\N{REPLACEMENT CHARACTER}"


@given(NAMES, st.sampled_from(KINDS), st.text())
def test_a_row_key_round_trips(group: str, kind: Kind, key: str) -> None:
    assert split_row_key(row_key(group, kind, key)) == (group, kind, key)


def test_the_newest_kernel_of_each_group_is_the_last_in_the_log() -> None:
    records = [
        KernelRecord(0, kernel_key("a"), b"1"),
        KernelRecord(0, learner_key("a", 0), b"private"),
        KernelRecord(1, kernel_key("b"), b"1"),
        KernelRecord(0, kernel_key("a"), b"2"),
        KernelRecord(1, kernel_key("b"), None),
        KernelRecord(1, None, b"foreign"),
    ]
    assert newest_kernels(records) == {"a": records[3], "b": records[4]}


def test_the_topics_accept_the_largest_record_of_the_writer() -> None:
    names = Config().topics
    sizes = {topic.name: topic.demands["max.message.bytes"].value for topic in topics(Config())}
    assert sizes[names.kernels] == sizes[names.state] == str(MAX_RECORD_BYTES)


def test_no_other_module_builds_the_keys() -> None:
    spelled = ['}/kernel"', '}/learner"', '"/kernel"', '"/learner"']
    for package in ("streaming", "local", "lab", "benchmarks", "driftline"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "keys.py":
                assert not [key for key in spelled if key in path.read_text()], path
