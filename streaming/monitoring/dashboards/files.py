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
"""What each file, without its ending, is made by."""


def texts() -> dict[str, str]:
    """What each file of `FOLDER` holds, by its name."""
    return {
        f"{name}.json": json.dumps(made(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, made in MADE.items()
    }


def write(folder: Path = FOLDER) -> None:
    """Writes them and takes away any other dashboard."""
    wanted = texts()
    for old in folder.glob("*.json"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
