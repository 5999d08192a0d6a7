"""What the tests of the configuration share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away every variable of the configuration that this process has."""
    for name in os.environ:
        if name.upper().startswith("DRIFTLINE_"):
            monkeypatch.delenv(name)
