"""Verdicts along a stream as bands of colour, a row per domain: the same in the lab's pictures and in the demo's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from model.drift.appearance import APPEARANCES
from model.drift.verdict import Verdict, VerdictKind

QUIET = frozenset({VerdictKind.STABLE, VerdictKind.TOO_LITTLE})
"""Verdicts without any finding."""


@dataclass(frozen=True)
class Band:
    """A verdict on one stratum for a while."""

    stratum: str
    kind: VerdictKind
    begin: float
    end: float
    """Event times, s, or whatever the axis of the picture counts."""


def bands(verdicts: Iterable[tuple[float, Verdict]], end: float) -> list[Band]:
    """Converts changes of verdict, with their times in order, to spans; `end` ends the last one."""
    standing: dict[str, tuple[float, VerdictKind]] = {}
    done = []
    for time, verdict in verdicts:
        if verdict.stratum in standing:
            begin, kind = standing[verdict.stratum]
            done.append(Band(verdict.stratum, kind, begin, time))
        standing[verdict.stratum] = time, verdict.kind
    done += [Band(stratum, kind, begin, end) for stratum, (begin, kind) in standing.items()]
    return [band for band in done if band.end > band.begin]


def noteworthy(shown: Iterable[Band]) -> list[Band]:
    """The bands of the group, and of strata with any verdict other than stable.

    Empty if there are no such strata. Names of strata may start with that of their kernel group and a colon.
    """
    everything = list(shown)
    loud = {band.stratum for band in everything if band.kind not in QUIET}
    return [band for band in everything if loud and (band.stratum in loud or band.stratum.split(": ")[-1] == "group")]


def draw_bands(axes: Any, shown: Sequence[Band]) -> None:
    """Draws one row per stratum, the group on top, and a legend of the verdicts that occur below the axes."""
    from matplotlib.patches import Patch

    strata = sorted({band.stratum for band in shown}, key=lambda name: (name != "group", name))
    for row, stratum in enumerate(strata):
        for band in shown:
            if band.stratum == stratum:
                across = [(band.begin, band.end - band.begin)]
                axes.broken_barh(across, (row - 0.42, 0.84), facecolors=APPEARANCES[band.kind].colour, linewidth=0)
    axes.set_ylim(len(strata) - 0.5, -0.5)
    axes.set_yticks(range(len(strata)), [stratum.replace("=", " ") for stratum in strata], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    occurring = [kind for kind in VerdictKind if any(band.kind is kind for band in shown)]
    handles = [Patch(color=APPEARANCES[kind].colour, label=APPEARANCES[kind].name) for kind in occurring]
    if handles:
        where = {"loc": "upper left", "bbox_to_anchor": (0.0, -0.02 - 0.5 / max(len(strata), 1))}
        axes.legend(handles=handles, ncols=len(handles), frameon=False, fontsize=9, **where)
