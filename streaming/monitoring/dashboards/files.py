"""The dashboards as the files that Grafana is provisioned from."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from streaming.monitoring.dashboards.drift import drift
from streaming.monitoring.dashboards.learning import learning
from streaming.monitoring.dashboards.overview import overview
from streaming.monitoring.dashboards.serving import serving

FOLDER = Path(__file__).resolve().parents[1] / "grafana" / "dashboards"
MADE = {"overview": overview, "drift": drift, "learning": learning, "serving": serving}
"""The function that makes each file, by its name without ending."""


def texts() -> dict[str, str]:
    """The contents of each file of `FOLDER`, by its name."""
    return {
        f"{name}.json": json.dumps(made(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, made in MADE.items()
    }


def write(folder: Path = FOLDER) -> None:
    """Writes all dashboards and deletes any other dashboard in the folder."""
    wanted = texts()
    for old in folder.glob("*.json"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
