"""Off-policy estimates on a scripted stream, by a real backbone and a real kernel that learns from the stream.

The live arm serves, the frozen arm is the target policy. The script knows every click probability, so the truth of
these requests is known; draws and clicks are played many times.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.off_policy import STREAMS, Truths, World, chances_of, judge, table
from lab.evaluate.plan import make_plan
from lab.evaluate.work import load_run, load_stream, prepare_stream, run_adapter
from lab.streams.sources import NamedStreams, choose
from model.control_users import ControlUsers
from streaming.config import Config

SCRIPT = "abrupt"


def served_requests(script: str) -> World:
    """The live half of a script: true click probabilities, logits of the live arm before it learned from them, and of
    the frozen arm."""
    (source,) = choose(NamedStreams(script=Path(script)), quick=False)
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan([source], ("iak",), 1, Path(folder), Config().cache_dir, quick=False)
        prepare_stream(plan, source, 0)
        run_adapter(plan, source, 0, "iak")
        data, live = load_stream(plan, source, 0), load_run(plan, source, 0, "iak").outcome.logit
    requests = len(np.unique(data.request))
    true, served, target = (
        column.astype(np.float64).reshape(requests, -1) for column in (data.probability, live, data.frozen_logit)
    )
    users = data.user.reshape(requests, -1)[:, 0]
    return World(np.array([ControlUsers().draw(str(user)).bucket for user in users]), true, served, target)


def main() -> int:
    """Prints bias, coverage and width by method."""
    requests, random = served_requests(SCRIPT), np.random.default_rng(0)
    rows = np.arange(len(requests.true))
    served, target = (
        float(requests.true[rows, logit.argmax(axis=1)].mean()) for logit in (requests.served, requests.target)
    )
    truth = Truths(served, target, float((chances_of(requests, 1.0) * requests.true).sum(axis=1).mean()))
    played = [judge(requests, 1.0, random) for _ in range(STREAMS)]
    Console(width=130).print(table(f"script {SCRIPT}, {len(rows):,} requests", played, truth))
    return 0
