"""Every expression that the dashboards ask Prometheus for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from streaming.monitoring.dashboards.files import FOLDER


@dataclass(frozen=True)
class PanelQuery:
    """One expression of a dashboard and its panel."""

    dashboard: str
    where: str
    expr: str

    @property
    def ready(self) -> str:
        """With the dashboard's variables put in: all of them."""
        return self.expr.replace("$group", ".*").replace("$stratum", ".*")

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.where}"


def dashboards() -> dict[str, dict[str, Any]]:
    """The committed files by name, without their ending."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def asked() -> list[PanelQuery]:
    """Panels' targets, then annotations and variables."""
    return [one for name, whole in dashboards().items() for one in _of(name, whole)]


def _of(name: str, whole: dict[str, Any]) -> Iterator[PanelQuery]:
    for panel in whole["panels"]:
        for target in panel.get("targets", ()):
            yield PanelQuery(name, f"{panel['title']} {target['refId']}", target["expr"])
    for mark in whole["annotations"]["list"]:
        yield PanelQuery(name, mark["name"], mark["expr"])
    for variable in whole["templating"]["list"]:
        series = variable["query"]["query"].removeprefix("label_values(").rpartition(",")[0]
        yield PanelQuery(name, f"variable {variable['name']}", series)
