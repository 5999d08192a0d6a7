"""Sizes of the proofs, the stacks they break, and the table of what they showed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from local.watchdog import Watchdog
from streaming.clients import quiet_client_logs
from tests.chaos.stack import Stack, made_stack

LONG = os.environ.get("CHAOS") == "long"
"""`make chaos` sets it: the sizes that the page of failures names. `make test` takes the short ones."""

only_long = pytest.mark.skipif(not LONG, reason="a long proof: `make chaos` runs it")

Tell = Callable[[str, str], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every proof has real processes and a broker of its own."""
    for item in items:
        if "chaos" in item.path.parts:
            item.add_marker(pytest.mark.broker)
            item.add_marker(pytest.mark.redis)
            item.add_marker(pytest.mark.slow)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(900))


@dataclass(frozen=True)
class Sizes:
    """How much each proof does."""

    rounds: int
    """Of kills, in each of which every process and the broker dies once."""
    fuzzed_records: int
    fuzzed_calls: int
    made_up_ids: int
    away_s: float
    poison: int
    """Examples of each phase with true or false labels."""
    soak_minutes: float


@pytest.fixture(scope="session")
def sizes() -> Sizes:
    """Of this run."""
    if LONG:
        minutes = float(os.environ.get("SOAK_MINUTES", "10"))
        return Sizes(25, 1_000_000, 100_000, 1_000_000, 60.0, 5_000, minutes)
    return Sizes(1, 2_000, 400, 20_000, 4.0, 1_500, 0.0)


@pytest.fixture(scope="package")
def started(tmp_path_factory: pytest.TempPathFactory, watchdog: Watchdog) -> Iterator[Stack]:
    """Ingest, a processor and a scorer on a broker of their own: most proofs break the same ones, one after another.

    They end with the last proof: even a stack without users takes its share of the processor.
    """
    quiet_client_logs()
    with made_stack(tmp_path_factory.mktemp("chaos") / "run", watchdog) as made:
        for role in ("ingest", "processor", "scorer"):
            made.add(role)
        yield made


@pytest.fixture
def stack(started: Stack) -> Iterator[Stack]:
    """The same, whole again whatever the proof before did to it."""
    started.mend()
    yield started
    started.leave()


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Notes what was done and what came of it, for the table at the end."""

    def note(done: str, result: str) -> None:
        record_property("chaos", (done, result))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table: proof, what was done, what came of it."""
    lines = [
        (report.nodeid.rpartition("::")[2], *told, report.outcome)
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for name, told in getattr(report, "user_properties", [])
        if name == "chaos"
    ]
    if lines:
        terminalreporter.section("chaos")
        for proof, done, result, outcome in lines:
            terminalreporter.write_line(f"{outcome}  {proof}\n        did  {done}\n        saw  {result}")
