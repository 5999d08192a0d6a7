"""Imports Feast without its side effects (docs/decisions/0025).

`feast.metrics` puts prometheus-client into its multiprocess mode by environment variables: metrics would go to files,
and every process started afterwards would inherit the mode. So prometheus-client is imported first, which fixes its
mode, and the variables that Feast sets are removed again. So are Feast's filters, which show all deprecation warnings.

Feast instruments its classes with run-time type checks by parsing its own sources (typeguard). That is half of its
import time, several seconds for every process, and finds nothing here, because mypy checks our calls.

Feast also imports PyTorch, for a conversion that is not used here: seconds and 600 MB in an ingest process that needs
no PyTorch (docs/decisions/0141). Here PyTorch is imported only when Feast converts.
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
        """A decorator that returns its target unchanged."""
        return target if target is not None else as_it_is

    typeguard.typechecked = as_it_is
    try:
        yield
    finally:
        typeguard.typechecked = original


def _torch_when_asked() -> None:
    """Replaces Feast's wrapper of PyTorch, which imports it at once, by one that imports it when it is asked for."""
    wrapper = ModuleType("feast.torch_wrapper", "Stands in for Feast's own module of this name.")
    wrapper.get_torch = lambda: importlib.import_module("torch")  # type: ignore[attr-defined]
    sys.modules.setdefault(wrapper.__name__, wrapper)


def import_feast(module: str = "feast") -> Any:
    """The named module of Feast. Takes some seconds the first time."""
    assert prometheus_client.REGISTRY is not None  # the import above has fixed its mode
    _torch_when_asked()
    before = {name: os.environ.get(name) for name in _LEAKED}
    with _no_instrumentation(), warnings.catch_warnings():
        imported = importlib.import_module(module)
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
    return imported
