"""Imports Feast without its side effects (docs/decisions/0025).

`feast.metrics` puts prometheus-client into its multiprocess mode by environment variables: values would go to files,
and every process started afterwards would inherit that. So prometheus-client is imported first, which fixes its mode,
and the variables that Feast sets are taken back. So are the filters by which it shows everybody's deprecation warnings.

Feast instruments its classes with run-time type checks by parsing its own sources again (typeguard). That is half its
import time, several seconds of every process, and finds nothing here: strict mypy checks our side of the calls.

It also imports PyTorch, for a conversion that nothing here asks for: seconds and 600 MB of an ingest that needs none
(docs/decisions/0141). Here it does so when it converts.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import prometheus_client
import typeguard

_LEAKED = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")


@contextmanager
def _no_instrumentation() -> Iterator[None]:
    original = typeguard.typechecked

    def as_it_is(target: Any = None, **_options: Any) -> Any:
        """Leaves what it decorates as it is."""
        return target if target is not None else as_it_is

    typeguard.typechecked = as_it_is
    try:
        yield
    finally:
        typeguard.typechecked = original


def _torch_when_asked() -> None:
    """Puts a module in the place of Feast's own, which imports PyTorch as soon as it is imported."""
    wrapper = ModuleType("feast.torch_wrapper", "Stands in for Feast's own module of this name.")
    wrapper.get_torch = lambda: importlib.import_module("torch")  # type: ignore[attr-defined]
    sys.modules.setdefault(wrapper.__name__, wrapper)


def import_feast(module: str = "feast") -> Any:
    """The named module of Feast. Takes some seconds the first time."""
    assert prometheus_client.REGISTRY is not None  # imported, so that its mode is fixed
    _torch_when_asked()
    before = {name: os.environ.get(name) for name in _LEAKED}
    with _no_instrumentation(), warnings.catch_warnings():
        imported = importlib.import_module(module)
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
    return imported
