"""Imports Feast without its side effects (docs/decisions/0025).

`feast.metrics` puts prometheus-client into its multiprocess mode by environment variables: metrics would go to files,
and every process started afterwards would inherit the mode. So prometheus-client is imported first, which fixes its
mode, and the variables that Feast sets are removed again. So are Feast's filters, which show all deprecation warnings.

Feast instruments its classes with run-time type checks by parsing its own sources (typeguard). That is half of its
import time, several seconds for every process, and finds nothing here, because mypy checks our calls.

Feast also imports PyTorch, for a conversion that is not used here: seconds and 600 MB in an ingest process that needs
no PyTorch. It imports its web servers, and its registry in an SQL database with SQLAlchemy: another quarter of what an
ingest process takes to start. Here each is imported when Feast uses it (docs/decisions/0141).
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

_STAND_INS: dict[str, ModuleType] = {}
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


def _defer() -> None:
    """Puts stand-ins for modules that Feast imports at once and seldom uses."""
    _stand_in("feast.torch_wrapper", get_torch=lambda: importlib.import_module("torch"))
    _stand_in("feast.feature_server")
    _stand_in("feast.ui_server")
    registry = "feast.infra.registry.sql"
    _stand_in(registry, SqlRegistry=lambda *arguments, **options: _real(registry).SqlRegistry(*arguments, **options))


def _stand_in(name: str, **known: Any) -> None:
    """A module of Feast that has the `known` names; every other name is that of the real module, then imported."""
    module = ModuleType(name, "Stands in for Feast's own module of this name.")
    module.__dict__.update(known)

    def attribute(asked: str) -> Any:
        if asked.startswith("__"):
            raise AttributeError(asked)  # Python itself asks, for example while it imports from this module
        return getattr(_real(name), asked)

    module.__dict__["__getattr__"] = attribute
    _STAND_INS[name] = sys.modules[name] = module


def _real(name: str) -> Any:
    """Feast's own module."""
    if sys.modules.get(name) is _STAND_INS[name]:
        del sys.modules[name]
    return import_feast(name)


def import_feast(module: str = "feast") -> Any:
    """The named module of Feast. Takes some seconds the first time."""
    assert prometheus_client.REGISTRY is not None  # the import above has fixed its mode
    if "feast" not in sys.modules:
        _defer()
    before = {name: os.environ.get(name) for name in _LEAKED}
    with _no_instrumentation(), warnings.catch_warnings():
        imported = importlib.import_module(module)
        importlib.import_module("feast.metrics")  # now, because Feast imports it where it serves or stores
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
    return imported
