"""The report as one HTML file with pictures included, so that it can be sent as one file."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Mapping, Sequence

from lab.evaluate.cells import amount
from lab.evaluate.plan import ALL_ADAPTERS
from lab.evaluate.report import EvaluationReport
from lab.evaluate.tables import tables

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;font-size:12px;margin:1em 0;display:block;overflow-x:auto}
th,td{padding:3px 8px;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}tr:hover td{background:#f4f8f6}
img{max-width:100%}h2{margin-top:2em}summary{cursor:pointer;font-weight:600}
"""


def page(report: EvaluationReport, pictures: dict[str, bytes]) -> str:
    """The page's source; it loads nothing from elsewhere, and does without a picture that is not in `pictures`."""
    seeds = amount(len(report.plan["seeds"]), "seed")
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Driftline: evaluation</title>",
        f"<style>{STYLE}</style><h1>What adapting gains, and what it costs</h1>",
        f"<p>Commit {html.escape(report.commit or 'unknown')}, {seeds}. Every example was "
        "scored before anything learned from it. The frozen model is never trained again; all others keep learning "
        "from the same labels, each at its own tuned learning rate. The first figures are those of a ranker: AUC "
        "within requests and NDCG, over the requests that hold both labels.</p>",
    ]
    parts += inlined(pictures)
    parts.append("<h2>Adapters</h2><ul>")
    parts += [
        f"<li><b>{html.escape(n)}</b>: {html.escape(ALL_ADAPTERS[n].about)}</li>" for n in report.plan["adapters"]
    ]
    parts.append("</ul><h2>Figures</h2>")
    for number, table in enumerate(tables(report)):
        parts += folded(*table, shown=number == 0)
    return "".join(parts) + "\n"


def inlined(pictures: Mapping[str, bytes]) -> Iterator[str]:
    """PNG files by name as parts of a page."""
    for name, picture in pictures.items():
        data = base64.b64encode(picture).decode()
        yield f'<p><img alt="{html.escape(name)}" src="data:image/png;base64,{data}"></p>'


def folded(title: str, head: Sequence[str], body: Sequence[Sequence[str]], *, shown: bool) -> Iterator[str]:
    """A table that unfolds, as parts of a page."""
    yield f"<details{' open' if shown else ''}><summary>{html.escape(title)}</summary><table><tr>"
    yield from (f"<th>{html.escape(cell)}" for cell in head)
    for row in body:
        yield "<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row)
    yield "</table></details>"
