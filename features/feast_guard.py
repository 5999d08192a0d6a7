"""Imports Feast without its side effects.

`feast.metrics` puts prometheus-client into its multiprocess mode by environment variables: values would go to files,
and every process started afterwards would inherit that. So prometheus-client is imported first, which fixes its mode,
and the variables that Feast sets are taken back.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import prometheus_client

_LEAKED = ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR")


def import_feast(module: str = "feast") -> Any:
    """The named module of Feast. Takes some seconds the first time."""
    assert prometheus_client.REGISTRY is not None  # imported, so that its mode is fixed
    before = {name: os.environ.get(name) for name in _LEAKED}
    found = importlib.import_module(module)
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
    return found
