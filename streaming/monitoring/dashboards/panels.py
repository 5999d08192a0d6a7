"""Panels, variables and annotations of the dashboards, all on the provisioned Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
    VisibilityMode,
)

from model.drift.appearance import APPEARANCES

SOURCE = model.DataSourceRef(type_val="prometheus", uid="driftline-prometheus")
TAG = "driftline"
COLOURS = {"frozen": "#A39B8B", "live": "#3D9BDC", "candidate": "#D9A300"}
"""Colours of the arms on every panel; frozen is grey and live is blue on the page and in reports too."""


@dataclass(frozen=True)
class Query:
    """One expression of a panel; `$group` and `$stratum` are the dashboard's variables."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class PanelRow:
    """A row of panels with a heading; without a title the panels are at the top."""

    title: str
    panels: Sequence[Builder[model.Panel]]


def line(title: str, description: str, unit: str, *queries: Query, width: int = 8, height: int = 8) -> timeseries.Panel:
    """Values over time; an arm's series has the arm's colour."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .grid_pos(model.GridPos(h=height, w=width))
        .line_width(1)
        .fill_opacity(5)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .targets(_targets(queries))
    )
    for arm, colour in COLOURS.items():
        panel = panel.override_by_regexp(rf"/\b{arm}\b/", [_value("color", {"mode": "fixed", "fixedColor": colour})])
    return panel.override_by_regexp(
        "/expected/", [_value("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}), _value("custom.lineWidth", 2)]
    )


def number(
    title: str, description: str, unit: str, query: Query, *, width: int = 4, bad_above: float | None = None
) -> stat.Panel:
    """The newest value in large; red above `bad_above`."""
    steps = [model.Threshold(value=None, color="text")]
    if bad_above is not None:
        steps = [model.Threshold(value=None, color="green"), model.Threshold(value=bad_above, color="red")]
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .grid_pos(model.GridPos(h=4, w=width))
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        .targets(_targets([query]))
    )


def verdict_number(title: str, description: str, query: Query, *, width: int = 4) -> stat.Panel:
    """A verdict in words on its colour."""
    panel = number(title, description, "none", query, width=width)
    return panel.mappings(_verdict_words()).color_mode(BigValueColorMode.BACKGROUND)


def verdict_timeline(title: str, description: str, query: Query, *, height: int) -> statetimeline.Panel:
    """One bar per stratum, in the words and colours of its verdicts."""
    return _timeline(title, description, query, height).mappings(_verdict_words())


def switch_timeline(title: str, description: str, query: Query, *, height: int) -> statetimeline.Panel:
    """One bar per series that is 1 or 0."""
    words = {"1": ("on", "#FF780A"), "0": ("off", "#8E8E8E")}
    return _timeline(title, description, query, height).mappings([_words(words)])


def dashboard(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[PanelRow],
    annotations: Sequence[Annotation],
    *,
    by_stratum: bool = False,
) -> model.Dashboard:
    """The whole dashboard: variables for the kernel group and, if wanted, the stratum; links to its siblings."""
    drawn = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(_variable("group", "Kernel group", "driftline_kernel_version"))
        .link(_siblings())
    )
    if by_stratum:
        drawn = drawn.with_variable(_variable("stratum", "Domain", 'driftline_verdict{group=~"$group"}'))
    for annotation in annotations:
        drawn = drawn.annotation(annotation)
    for section in sections:
        if section.title:
            drawn = drawn.with_row(build.Row(section.title))
        for held in section.panels:
            drawn = drawn.with_panel(held)
    made = drawn.build()
    for place, panel in enumerate(made.panels or (), 1):
        panel.id_val = place
    return made


class Annotation(Builder[model.AnnotationQuery]):
    """Marks and spans on every panel, from one expression; the title may name the series' labels."""

    def __init__(self, name: str, colour: str, expr: str, title: str, step: str) -> None:
        self._made = _PrometheusAnnotation(name=name, datasource=SOURCE, enable=True, icon_color=colour, expr=expr)
        self._made.title, self._made.step = title, step

    def build(self) -> model.AnnotationQuery:
        """As the SDK takes it."""
        return self._made


class _PrometheusAnnotation(model.AnnotationQuery):
    """With the keys that only this data source reads, which the SDK has no names for."""

    title: str
    step: str

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "titleFormat": self.title, "step": self.step}


def _timeline(title: str, description: str, query: Query, height: int) -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("none")
        .grid_pos(model.GridPos(h=height, w=24))
        .merge_values(True)
        .show_value(VisibilityMode.AUTO)
        .row_height(0.85)
        .fill_opacity(85)
        .line_width(0)
        .legend(common.VizLegendOptions().show_legend(False).display_mode(LegendDisplayMode.LIST))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.SINGLE))
        .targets(_targets([query]))
    )


def _targets(queries: Sequence[Query]) -> list[Builder[Any]]:
    made: list[Builder[Any]] = []
    for letter, query in zip("ABCDEFGHIJ", queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).range()
        made.append(target.datasource(SOURCE))
    return made


def _value(name: str, value: object) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val=name, value=value)


def _verdict_words() -> list[model.ValueMapping]:
    return [_words({str(code): (shown.name, shown.colour) for code, shown in enumerate(APPEARANCES.values())})]


def _words(options: dict[str, tuple[str, str]]) -> model.ValueMap:
    results = {
        value: model.ValueMappingResult(text=text, color=colour, index=place)
        for place, (value, (text, colour)) in enumerate(options.items())
    }
    return model.ValueMap(options=results)


def _variable(name: str, label: str, series: str) -> build.QueryVariable:
    query = f"label_values({series}, {name})"
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(text=["All"], value=["$__all"]))
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def _siblings() -> build.DashboardLink:
    return (
        build.DashboardLink("Driftline")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .keep_time(True)
        .include_vars(True)
        .as_dropdown(False)
    )
