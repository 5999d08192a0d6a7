"""The reference and what is watched of inputs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.drift.reference import monitored_inputs


@given(width=st.integers(1, 70), cuts=st.sets(st.integers(1, 39), max_size=12), seed=st.integers(0, 99))
def test_monitored_inputs_of_an_example_do_not_depend_on_other_examples(width: int, cuts: set[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    x, logit = random.normal(size=(40, width)).astype(np.float16), random.normal(size=40)
    places = sorted(cuts)
    parts = [monitored_inputs(*part) for part in zip(np.split(x, places), np.split(logit, places), strict=True)]
    assert np.array_equal(np.concatenate(parts), monitored_inputs(x, logit))
