"""Labels as packed bits: set one by one, they are what numpy packs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streaming.kernel_log.label_bits import is_set, pack, size_of, unpack, with_set


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_labels_set_one_by_one_are_the_bits_that_numpy_packs(labels: list[bool]) -> None:
    bits = bytes(size_of(len(labels)))
    for index in np.flatnonzero(labels).tolist():
        bits = with_set(bits, index)
    assert bits == pack(np.array(labels))
    assert [is_set(bits, index) for index in range(len(labels))] == labels
    assert unpack(bits, len(labels)).tolist() == labels


def test_no_bits_stand_for_no_label() -> None:
    assert not is_set(b"", 3)
    assert unpack(b"", 3).tolist() == [False, False, False]
