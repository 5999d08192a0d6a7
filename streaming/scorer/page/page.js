// The page's loop: asks the scorer, keeps a bounded past, and draws what has changed. Without a build step.

import { Refused, call, key, setKey } from "./api.js";
import { draw } from "./chart.js";
import { drawConversions } from "./conversions.js";
import { drawKernels, giveOrder } from "./kernels.js";
import { allow, offer } from "./ranking.js";
import { SEVERITY, clock, count, duration, element, figure, fill, known, since, sinceCell, stratumName, verdictName } from "./words.js";

const POLL_MS = 5000;
const MOST_WAIT_MS = 30000;
const MAX_DECISIONS = 500;
const MOST_POINTS = 2500; // beyond it the scorer's own, thinned past is asked for again
const SHOWN_DECISIONS = 60;
const OLD_S = 60;

const at = (id) => document.getElementById(id);
const state = {
  status: null, swaps: [], decisions: [], past: null, group: null, stratum: "group", received: 0, failures: 0, timer: 0,
  verdicts: new Map(), asking: false, again: false,
};

// --- asking ---

async function poll() {
  clearTimeout(state.timer);
  state.again = state.asking;
  if (document.hidden || state.asking) return;
  state.asking = true;
  let wait = POLL_MS;
  try {
    await ask();
    state.failures = 0;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    wait = failed(error);
  } finally {
    state.asking = false;
    clearTimeout(state.timer);
    state.timer = setTimeout(poll, state.again ? 0 : wait);
  }
}

async function ask() {
  const after = state.status?.decision_count ?? 0;
  let status = await call(`/v1/status?after=${after}`);
  if (state.status && status.run !== state.status.run) {
    state.decisions = []; // another scorer, or the same started again: its count is another
    state.past = null;
    status = await call("/v1/status");
  }
  state.decisions = [...state.decisions, ...status.decisions].slice(-MAX_DECISIONS);
  state.status = status;
  state.received = Date.now();
  chooseGroup();
  const [kernels] = await Promise.all([call("/v1/kernels?last=200"), askPast()]);
  state.swaps = kernels.swaps;
  show();
}

async function askPast() {
  const { group, stratum, past } = state;
  if (!group) return;
  const same = past && past.group === group && past.stratum === stratum && past.time.length < MOST_POINTS;
  const from = same && past.time.length ? past.time.at(-1) : 0;
  const query = new URLSearchParams({ group, stratum, since: from });
  const more = await call(`/v1/history?${query}`);
  if (state.group !== group || state.stratum !== stratum) return;
  if (!same) state.past = more;
  else join(past, more);
}

function join(past, more) {
  const length = past.time.length;
  past.time.push(...more.time);
  past.kernel_version.push(...more.kernel_version);
  for (const [name, values] of Object.entries(more.series)) {
    past.series[name] ??= new Array(length).fill(null);
    past.series[name].push(...values);
  }
}

function failed(error) {
  state.failures += 1;
  if (error.wantsKey) {
    feed("key", key() ? "The key does not open this page" : "A key is needed");
    notice(key() ? error.message : "This scorer needs a key: press Key, and enter one with the right `read`.");
    if (!key() && state.failures === 1) at("key-dialog").showModal();
    return MOST_WAIT_MS;
  }
  const last = state.received ? `what stands here is of ${clock(state.received / 1000)}` : "nothing is known yet";
  feed("away", `The scorer does not answer; ${last}. Trying again`);
  return Math.max(error.wait * 1000, Math.min(POLL_MS * state.failures, MOST_WAIT_MS));
}

// --- showing ---

// It changes every few seconds: spoken is only that the scorer went away, or came back.
function feed(kind, words) {
  const before = at("feed").dataset.state;
  if (before !== kind && (kind !== "live" || before === "away")) at("spoken").textContent = words;
  at("feed").dataset.state = kind;
  at("feed").textContent = words;
}

function notice(words) {
  at("notice").hidden = !words;
  if (at("notice").textContent !== words) at("notice").textContent = words;
}

function say(words, alarm = false) {
  at("spoken").textContent = words;
  at("ordered").textContent = words;
  if (alarm) notice(words);
}

function currentStatus() {
  return state.status?.groups.find(({ group }) => group === state.group);
}

function sorted(domains) {
  const rank = ({ verdict }) => (SEVERITY.indexOf(verdict) + SEVERITY.length + 1) % (SEVERITY.length + 1);
  return [...domains].sort((one, other) =>
    (other.stratum === "group") - (one.stratum === "group") || rank(one) - rank(other) || one.stratum.localeCompare(other.stratum));
}

function chooseGroup() {
  const groups = state.status.kernels.map(({ group }) => group);
  if (!groups.includes(state.group)) {
    state.group = groups[0] ?? null;
    state.past = null;
  }
  at("group-choice").hidden = groups.length < 2;
  fill(at("group"), groups.join("\n"), () => groups.map((group) => element("option", { value: group }, group)));
  at("group").value = state.group;
}

function show() {
  const { status } = state;
  const now = status.now;
  const current = currentStatus();
  const domains = current ? sorted(current.domains) : [];
  const decisions = state.decisions.filter(({ group }) => !group || group === state.group);
  showFeed(now, current);
  notice("");
  showAnswers(status.answers, now);
  showChoice(domains);
  if (state.past) draw(state.past, current?.domains ?? [], decisions, now);
  showDomains(domains, now);
  drawConversions(current?.conversions);
  drawKernels(status.kernels.find(({ group }) => group === state.group), state.swaps, current, now, order, status.may.includes("operator"));
  showDecisions(decisions);
  showAlarms(status.alarms.filter(({ group }) => group === state.group));
  allow(status.queries, status.may);
  offer(status.example, domains.map(({ stratum }) => stratum));
  speakChanges(domains);
}

function showFeed(now, current) {
  if (state.status.problem) return feed("old", `What is told may be old: ${state.status.problem}`);
  if (!current) return feed("waiting", "No processor has reported yet");
  const age = now - current.wall;
  if (age > OLD_S) return feed("old", `Nothing was heard of ${state.group} for ${duration(age)}; what stands here is of ${clock(current.wall)}`);
  const fresh = known(current.newest_event_time) ? `; learned from what was shown until ${clock(current.newest_event_time)}` : "";
  return feed("live", `As of ${clock(current.wall)}${fresh}`);
}

function showAnswers(answers, now) {
  const cards = at("answers").children;
  answers.forEach((answer, index) => {
    const card = cards[index];
    card.dataset.tone = answer.tone;
    card.querySelector("h2").textContent = answer.question;
    card.querySelector(".words").textContent = answer.words;
    card.querySelector(".since").textContent = known(answer.since) ? `Since ${since(answer.since, now)}` : "";
  });
  const worst = answers.some(({ tone }) => tone === "bad") ? "▲ " : "";
  document.title = `${worst}Driftline`;
}

function showChoice(domains) {
  const names = domains.length ? domains.map(({ stratum }) => stratum) : ["group"];
  if (!names.includes(state.stratum)) choose("group");
  fill(at("stratum"), names.join("\n"), () => names.map((name) => element("option", { value: name }, stratumName(name))));
  at("stratum").value = state.stratum;
}

function showDomains(domains, now) {
  at("domains").hidden = domains.length === 0;
  at("domains-empty").hidden = domains.length > 0;
  // Minutes go by without a change: the row is made anew with its words, not with each second.
  const key = JSON.stringify([domains, state.stratum, Math.floor(now / 15)]);
  fill(at("domains").tBodies[0], key, () => domains.map((domain) => domainRow(domain, now)));
}

function domainRow(domain, now) {
  const pick = element("button", { type: "button", class: "link", "data-focus": `domain-${domain.stratum}` }, stratumName(domain.stratum));
  pick.addEventListener("click", () => choose(domain.stratum));
  const name = element("div", { class: "verdict-name" }, element("i", { class: `v-${domain.verdict}` }), verdictName(domain.verdict));
  const verdict = element("td", {}, name, element("p", { class: "words" }, domain.words));
  const cure = element("td", { "data-label": "What to do" }, domain.advice);
  if (Object.keys(domain.evidence).length) cure.append(evidence(domain));
  const [frozen, live] = ["frozen", "live"].map((arm) => figure(domain.arms[arm]?.log_loss, 3));
  const losses = frozen === "not known" && live === frozen ? frozen : `${frozen} / ${live}`;
  return element("tr", { "aria-current": state.stratum === domain.stratum ? "true" : undefined },
    element("th", { scope: "row" }, pick),
    verdict,
    sinceCell("Since", domain.since, now),
    element("td", { "data-label": "Log loss, frozen / live", class: "number" }, losses),
    element("td", { "data-label": "Examples", class: "number" }, count(domain.examples)),
    cure);
}

function evidence(domain) {
  const rows = Object.entries(domain.evidence).flatMap(([name, value]) => [
    element("dt", {}, name.replaceAll("_", " ")),
    element("dd", {}, value === null ? "not known" : known(value) ? String(Number(value.toPrecision(4))) : String(value)),
  ]);
  return element("details", { "data-focus": `evidence-${domain.stratum}` }, element("summary", {}, "Evidence"), element("dl", {}, ...rows));
}

function showDecisions(decisions) {
  const shown = decisions.filter(({ kind }) => kind !== "uplift").slice(-SHOWN_DECISIONS).reverse();
  at("happened-empty").hidden = shown.length > 0;
  fill(at("happened"), JSON.stringify(shown.map(({ kind, time, by }) => [kind, time, by])), () =>
    shown.map((one) => element("li", {}, element("time", { datetime: new Date(one.time * 1000).toISOString() }, clock(one.time)), element("span", {}, decisionWords(one)))));
}

function showAlarms(alarms) {
  at("alarms-box").hidden = alarms.length === 0;
  fill(at("alarms"), JSON.stringify(alarms), () => [...alarms].reverse().map(({ time, detail }) => element("li", {},
    element("time", { datetime: new Date(time * 1000).toISOString() }, clock(time)),
    element("span", {}, `${stratumName(detail.stratum)}: ${detail.detector} on ${detail.signal}, ${figure(detail.value, 3)} beyond ${figure(detail.threshold, 3)}`))));
}

function decisionWords({ kind, by, detail }) {
  if (kind === "verdict") return `${stratumName(detail.stratum)}: ${verdictName(detail.to)}. ${detail.words ?? ""}`;
  if (kind === "drift_announced") return `Announced: ${detail.name} ${detail.phase}.`;
  const version = detail.version ? ` version ${detail.version}` : "";
  const why = detail.why ?? detail.reason ?? "";
  const task = detail.task ? ` of ${detail.task}` : "";
  return `${kind.replaceAll("_", " ")}${version}${task}, by ${by}${why ? `: ${why}` : ""}`;
}

// A change of a verdict is spoken; the first look is not, for nothing has changed.
function speakChanges(domains) {
  const changed = domains.filter(({ stratum, verdict }) => {
    const before = state.verdicts.get(`${state.group}\n${stratum}`);
    return before !== undefined && before !== verdict;
  });
  for (const { stratum, verdict } of domains) state.verdicts.set(`${state.group}\n${stratum}`, verdict);
  if (changed.length) at("spoken").textContent = changed.map(({ stratum, verdict }) => `${stratumName(stratum)}: ${verdictName(verdict)}.`).join(" ");
}

// --- what a person does ---

function choose(stratum) {
  state.stratum = stratum;
  state.past = null;
  poll();
}

async function order(kind, version) {
  await giveOrder(kind, state.group, version, say);
  poll();
}

at("stratum").addEventListener("change", (event) => choose(event.target.value));
at("group").addEventListener("change", (event) => {
  state.group = event.target.value;
  choose("group");
});
at("orders").addEventListener("click", (event) => {
  const kind = event.target.dataset?.order;
  if (kind) order(kind);
});
at("open-key").addEventListener("click", () => at("key-dialog").showModal());
at("key-dialog").addEventListener("close", () => {
  const dialog = at("key-dialog");
  if (dialog.returnValue === "use") setKey(at("key").value.trim());
  if (dialog.returnValue === "forget") setKey("");
  at("key").value = "";
  dialog.returnValue = "";
  state.failures = 1;
  poll();
});
document.addEventListener("visibilitychange", poll);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.status && show());
poll();
