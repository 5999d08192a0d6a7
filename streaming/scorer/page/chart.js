// The time line of one stratum: both arms, verdicts of all domains, announced drift and kernel versions on one axis.

import { VERDICTS, clock, element, figure, fill, known, stratumName, verdictName } from "./words.js";

const MEASURES = [
  ["log_loss", "log loss"],
  ["request_auc", "AUC within requests"],
];
const MOST_LANES = 9;
const MOST_TICKS = 60;
const MOST_MARKS = 8;
const MOST_SPANS = 20;
const TABLE_ROWS = 24;
const LETTER_PX = 6.5;
const OWN = ["stable", "too_little_data"];
const ORDERS = {
  pin: "pinned", rollback: "rolled back by an operator", freeze: "frozen", stop_learning: "learning stopped",
  resume: "resumed", held: "held by the gate", rolled_back: "rolled back by the gate", undone: "undone by the gate",
  resumed: "the gate resumes", quarantined: "labels set aside", accepted: "labels taken again",
};

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const COLORS = {
  stable: "stable", drifting_handled: "handled", drifting_unhandled: "unhandled", broken_by_us: "broken",
  labels_faulty: "labels", input_fault: "inputs", too_little_data: "little",
};

// Plotly reads a few tags out of its texts, links among them; names come from outside.
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function short(text, most) {
  const letters = [...String(text)];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : letters.join("");
}

// Plotly draws dates as they are written: local time, without a zone.
function stamp(seconds) {
  const date = new Date(seconds * 1000);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 23);
}

// Stretches of announced drift, oldest first; what nobody has ended goes on.
export function announced(decisions, begin, end) {
  const open = new Map();
  const spans = [];
  for (const { kind, time, detail } of decisions) {
    if (kind !== "drift_announced") continue;
    const key = `${detail.name}\n${detail.kind}`;
    if (detail.phase === "ends") {
      const from = open.get(key);
      if (from) spans.push({ ...from, end: time });
      open.delete(key);
    } else if (!open.has(key)) open.set(key, { name: String(detail.name), begin: time });
  }
  for (const span of open.values()) spans.push({ ...span, end });
  return spans
    .filter((span) => span.end >= begin && span.begin <= end)
    .map((span) => ({ ...span, begin: Math.max(span.begin, begin), end: Math.min(span.end, end) }))
    .slice(-MOST_SPANS);
}

// Stretches of one verdict in each stratum, from what it was told to become. What is told of the group alone holds of
// its strata while they are stable by themselves: no change of theirs is told for it.
export function stretches(domains, decisions, begin, end) {
  const changes = decisions.filter(({ kind, detail }) => kind === "verdict" && detail.stratum !== undefined);
  const own = domains.map((domain) => ownStretches(domain, changes, begin, end));
  const group = own.find(([first]) => first?.stratum === "group") ?? [];
  return own.flatMap((spans) => (spans === group ? spans : spans.flatMap((span) => shared(span, group))));
}

function ownStretches(domain, changes, begin, end) {
  const own = changes.filter(({ detail }) => detail.stratum === domain.stratum);
  const alone = domain.evidence?.shares === undefined ? domain.verdict : "stable";
  const found = [];
  let at = begin;
  let kind = own.length ? own[0].detail.from : alone;
  for (const { time, detail } of own) {
    if (time > at) found.push({ stratum: domain.stratum, kind, begin: at, end: Math.min(time, end) });
    at = Math.max(time, begin);
    kind = detail.to;
  }
  if (end > at) found.push({ stratum: domain.stratum, kind: alone, begin: at, end });
  return found;
}

function shared(span, group) {
  if (span.kind !== "stable") return [span];
  const found = [];
  let at = span.begin;
  for (const { kind, begin, end } of group.filter(({ kind }) => !OWN.includes(kind))) {
    const from = Math.max(begin, at), until = Math.min(end, span.end);
    if (until <= from) continue;
    if (from > at) found.push({ ...span, begin: at, end: from });
    found.push({ ...span, kind, begin: from, end: until, shares: true });
    at = until;
  }
  if (span.end > at) found.push({ ...span, begin: at });
  return found;
}

function lanes(domains, spans) {
  const eventful = new Set(
    spans.filter(({ kind, shares }) => !OWN.includes(kind) && !shares).map(({ stratum }) => stratum),
  );
  const ranked = [...domains].sort((one, other) => eventful.has(other.stratum) - eventful.has(one.stratum));
  const kept = new Set(ranked.slice(0, MOST_LANES).map(({ stratum }) => stratum));
  return domains.map(({ stratum }) => stratum).filter((stratum) => kept.has(stratum)).reverse();
}

function arms(past) {
  const x = past.time.map(stamp);
  return MEASURES.flatMap(([measure, words], panel) => {
    const lines = [["frozen", "dash"], ["live", "solid"]].map(([arm, dash]) => ({
      x, y: past.series[`${arm}_${measure}`] ?? [], name: `${arm}, ${words}`, type: "scatter", mode: "lines",
      yaxis: panel ? "y2" : "y", line: { color: color(arm), width: arm === "live" ? 2.4 : 1.8, dash },
      hovertemplate: "%{y:.4f}",
    }));
    if (measure === "log_loss") lines.push({
      ...lines[1], y: past.series.expected_log_loss ?? [], name: "expected before labels",
      line: { color: color("live"), width: 1.2, dash: "dot" },
    });
    return lines;
  });
}

function laneTraces(spans, names, most) {
  const traces = [];
  for (const kind of Object.keys(VERDICTS)) {
    const own = spans.filter((span) => span.kind === kind && names.includes(span.stratum));
    if (!own.length) continue;
    traces.push({
      type: "scatter", mode: "lines", yaxis: "y3", name: verdictName(kind), hoverinfo: "text",
      line: { color: color(COLORS[kind]), width: 11 },
      x: own.flatMap((span) => [stamp(span.begin), stamp(span.end), null]),
      y: own.flatMap((span) => [lane(span.stratum, most), lane(span.stratum, most), null]),
      text: own.flatMap((span) => {
        const words = plain(`${stratumName(span.stratum)}: ${verdictName(kind)}`);
        return [words, words, ""];
      }),
    });
  }
  return traces;
}

function lane(stratum, most) {
  return plain(short(stratumName(stratum), most));
}

function versionTrace(past) {
  const changes = past.kernel_version
    .map((version, at) => ({ version, time: past.time[at], changed: at > 0 && version !== past.kernel_version[at - 1] }))
    .filter(({ changed }) => changed);
  const step = Math.ceil(changes.length / MOST_TICKS) || 1;
  const shown = changes.filter((_, at) => at % step === 0);
  return {
    type: "scatter", mode: "markers", yaxis: "y3", name: "kernel version", hoverinfo: "text",
    x: shown.map(({ time }) => stamp(time)), y: shown.map(() => "kernels"),
    text: shown.map(({ version }) => `kernel ${version}`),
    marker: { symbol: "line-ns", size: 11, line: { width: 1.2, color: color("soft") } },
  };
}

function orderTrace(decisions, begin, end) {
  const shown = decisions.filter(({ kind, time }) => ORDERS[kind] && time >= begin && time <= end);
  return {
    type: "scatter", mode: "markers", yaxis: "y3", name: "gate and operators", hoverinfo: "text",
    x: shown.map(({ time }) => stamp(time)), y: shown.map(() => "kernels"),
    text: shown.map(({ kind, by }) => plain(`${ORDERS[kind]} (${by})`)),
    marker: { symbol: "diamond", size: 10, color: color("broken"), line: { width: 1, color: color("card") } },
  };
}

// Announced drift is shaded; a change of this stratum's verdict is a line with its new name.
function marks(spans, changes, perSecond) {
  const shapes = spans.map((span) => ({
    type: "rect", xref: "x", yref: "paper", x0: stamp(span.begin), x1: stamp(span.end), y0: 0, y1: 1,
    fillcolor: color("announced"), opacity: 0.13, line: { width: 0 }, layer: "below",
  }));
  const notes = spans.map((span) => ({
    x: stamp(span.begin), xref: "x", y: 1, yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false,
    yshift: 14, text: plain(`announced: ${short(span.name, 24)}`), font: { size: 11, color: color("soft") },
  }));
  changes.slice(-MOST_MARKS).forEach(({ time, detail }, at, shown) => {
    const tone = color(COLORS[detail.to] ?? "unknown");
    shapes.push({
      type: "line", xref: "x", yref: "paper", x0: stamp(time), x1: stamp(time), y0: 0, y1: 1,
      line: { color: tone, width: 1.5, dash: "dot" },
    });
    const room = at + 1 < shown.length ? (shown[at + 1].time - time) * perSecond : Infinity;
    if (room > LETTER_PX * verdictName(detail.to).length) notes.push({
      x: stamp(time), xref: "x", y: 1, yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false,
      text: plain(verdictName(detail.to)), font: { size: 11, color: tone },
    });
  });
  return { shapes, annotations: notes };
}

function layout(past, names, marked, most) {
  const axis = { gridcolor: color("line"), zeroline: false, tickfont: { color: color("soft") }, automargin: true };
  const title = (text) => ({ text, font: { size: 12, color: color("soft") }, standoff: 6 });
  const share = Math.min(0.12 + 0.032 * (names.length + 1), 0.44);
  const half = (1 - share - 0.1) / 2;
  return {
    ...marked, autosize: true, showlegend: false, hovermode: "closest", dragmode: false, uirevision: past.stratum,
    margin: { l: 10, r: 12, t: 38, b: 30 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("ink") },
    hoverlabel: { bgcolor: color("card"), bordercolor: color("field"), font: { color: color("ink") } },
    xaxis: { ...axis, type: "date", anchor: "y3", showgrid: false, tickangle: 0, nticks: most < 20 ? 4 : 8, range: [stamp(past.begin), stamp(past.end)] },
    yaxis: { ...axis, domain: [share + half + 0.1, 1], title: title("log loss"), nticks: 5 },
    yaxis2: { ...axis, domain: [share + 0.05, share + half + 0.05], title: title("AUC in requests"), nticks: 5 },
    yaxis3: {
      ...axis, domain: [0, share], type: "category", showgrid: false, fixedrange: true,
      categoryorder: "array", categoryarray: ["kernels", ...names.map((name) => lane(name, most))],
      range: [-0.6, names.length + 0.6], tickmode: "array",
      tickvals: ["kernels", ...names.map((name) => lane(name, most))],
    },
  };
}

function drawLegend(kinds) {
  const arms = [["c-live", "live arm"], ["c-frozen", "frozen arm"], ["c-expected", "expected before labels"]];
  const rows = [
    ...arms.map(([style, words]) => element("li", {}, element("span", { class: style }), words)),
    ...kinds.map((kind) => element("li", { class: "verdict" }, element("span", { class: `v-${kind}` }), verdictName(kind))),
  ];
  fill(document.getElementById("legend"), kinds.join(), () => rows);
}

function drawTable(past) {
  const table = document.getElementById("figures");
  const columns = ["frozen_log_loss", "live_log_loss", "expected_log_loss", "frozen_request_auc", "live_request_auc", "label_rate"];
  const step = Math.ceil(past.time.length / TABLE_ROWS) || 1;
  const rows = past.time.map((time, at) => ({ time, at })).filter(({ at }) => (past.time.length - 1 - at) % step === 0).reverse();
  const key = `${past.group}\n${past.stratum}\n${past.time.at(-1)}`;
  fill(table.tBodies[0], key, () => rows.map(({ time, at }) => element("tr", {},
    element("th", { scope: "row" }, clock(time)),
    element("td", { class: "number" }, String(past.kernel_version[at])),
    ...columns.map((name) => element("td", { class: "number" }, figure(past.series[name]?.[at]))))));
  fill(table.tHead, "head", () => [element("tr", {}, ...["Time", "Kernel", "Log loss, frozen", "live", "expected", "AUC in requests, frozen", "live", "Clicks per item"]
    .map((words, at) => element("th", { scope: "col", class: at ? "number" : undefined }, words)))]);
}

export function draw(past, domains, decisions, now) {
  const chart = document.getElementById("chart");
  const any = past.time.length > 0;
  chart.hidden = !any;
  document.getElementById("chart-empty").hidden = any;
  drawTable(past);
  if (!any || !window.Plotly) return;
  const last = past.time.at(-1);
  const begin = past.time[0];
  const end = Math.max(last, Math.min(now, last + 10), begin + 1);
  const spans = stretches(domains, decisions, begin, end);
  const names = lanes(domains, spans);
  const most = chart.clientWidth < 500 ? 14 : 26;
  const changes = decisions.filter(({ kind, time, detail }) =>
    kind === "verdict" && detail.stratum === past.stratum && time >= begin && time <= end);
  const traces = [
    ...arms(past), ...laneTraces(spans, names, most), versionTrace(past), orderTrace(decisions, begin, end),
  ];
  drawLegend(Object.keys(VERDICTS).reverse().filter((kind) => spans.some((span) => span.kind === kind)));
  const marked = marks(announced(decisions, begin, end), changes, (0.8 * chart.clientWidth) / (end - begin));
  window.Plotly.react(chart, traces, layout({ ...past, begin, end }, names, marked, most), {
    displayModeBar: false, responsive: true, doubleClick: "reset", showTips: false,
  });
  describe(chart, past, changes);
}

// What the picture shows, for those who do not see it.
function describe(chart, past, changes) {
  const at = past.time.length - 1;
  const [frozen, live] = ["frozen", "live"].map((arm) => past.series[`${arm}_log_loss`]?.[at]);
  const arms = known(frozen) && known(live) ? `log loss now ${figure(frozen, 3)} frozen, ${figure(live, 3)} live` : "log loss not known";
  const last = changes.at(-1);
  const verdict = last ? `; ${verdictName(last.detail.to)} since ${clock(last.time)}` : "";
  chart.setAttribute("aria-label", `${stratumName(past.stratum)} since ${clock(past.time[0])}: ${arms}${verdict}. The table below holds the figures.`);
}
