"""`python -m benchmarks`: runs every benchmark in a process of its own and prints what the README quotes.

A benchmark is a module of this package with a `main()`, listed below. It prints its own tables.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: a module of this package and what it measures."""

    name: str
    shows: str
    """What its figures say, in one line."""


BENCHMARKS = (
    Benchmark("live_features", "updating and reading live features, beside what a user would write"),
    Benchmark("gate", "false alarms of the gate over 10 000 streams without harm, and how soon harm is found"),
    Benchmark("poison", "what wrong labels and false conversions do to the live arm, with the gate and without it"),
    Benchmark("feature_store", "one request's reads and pushes, SQLite and Redis"),
    Benchmark("kernel_cost", "size and time of the kernel, beside full fine-tuning"),
    Benchmark("user_encoders", "what each user encoder adds to the model time of a request, and what two towers save"),
    Benchmark("scene_methods", "what a scene's own parameters add to the model time of a request, by method"),
    Benchmark("monitoring", "what drift monitoring costs: of learning, of a request, of a scrape, and in memory"),
    Benchmark("uplift_coverage", "how often the experiment's intervals hold at all looks together, in simulation"),
    Benchmark("off_policy", "bias, coverage and width of off-policy estimates, beside an experiment, in simulation"),
    Benchmark("off_policy_script", "the same with a real kernel on a script, whose click probabilities are known"),
    Benchmark("join", "memory of an open item, a take-over with a million of them open, and what join and gate cost"),
    Benchmark("commits", "bytes a day that commits write at 14 requests a second, and what a take-over learns again"),
    Benchmark("scoring", "scoring 100 candidates while the processor learns, latency and memory"),
    Benchmark("pipeline", "examples per second end to end through the real broker, and freshness"),
)


def chosen(only: Sequence[str]) -> list[Benchmark]:
    """The benchmarks named in `only`, or all. Raises SystemExit naming an unknown one."""
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    for name in only:
        if name not in known:
            raise SystemExit(f"no benchmark {name!r}; there are {', '.join(known)}")
    return [known[name] for name in only or known]


def run(benchmark: Benchmark) -> int:
    """Runs one benchmark; its exit code."""
    if importlib.util.find_spec(f"benchmarks.{benchmark.name}") is None:
        raise SystemExit(f"benchmarks/{benchmark.name}.py is listed but not there")
    command = [sys.executable, "-c", f"from benchmarks.{benchmark.name} import main; raise SystemExit(main())"]
    return subprocess.run(command, check=False).returncode


def _list(console: Console) -> None:
    table = Table("name", "shows", title="Benchmarks")
    for benchmark in BENCHMARKS:
        table.add_row(benchmark.name, benchmark.shows)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 if every benchmark ran; the failed ones are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="run these alone")
    parser.add_argument("--list", action="store_true", help="say what there is")
    options = parser.parse_args(arguments)
    console = Console()
    if options.list:
        _list(console)
        return 0
    failed = []
    for benchmark in chosen(options.only):
        console.rule(f"[bold]{benchmark.name}[/]: {benchmark.shows}")
        started = time.monotonic()
        if run(benchmark) != 0:
            failed.append(benchmark.name)
        console.print(f"[dim]{benchmark.name}: {time.monotonic() - started:.0f} s[/]")
    if failed:
        console.print(f"[bold red]failed:[/] {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
