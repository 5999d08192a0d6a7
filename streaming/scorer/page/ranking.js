// Ranks for a user by both arms, shows what the answer has beside clicks, takes a click, and shows what the next kernel makes of it.

import { Refused, call } from "./api.js";
import { count, element, fill } from "./words.js";

const NOW = "/v1/status?after=1e15"; // with nothing of what has happened
// What an answer may have of each item, and what its column is called.
const PARTS = [["score", "Score"], ["ctr", "Click"], ["relevance", "Relevance"], ["cvr", "Conversion of a click"], ["ctcvr", "Click and conversion"]];
const ASK_MS = 1000;
const PATIENCE_MS = 90000;

const form = document.getElementById("try");
const message = document.getElementById("tried");
let shown = null; // the ranking on the page: request, answer, clicked items
let watch = 0; // a newer ranking ends an older wait
let mayClick = true;

function request() {
  const value = (name) => form.elements[name].value.trim();
  const domain = {};
  for (const facet of ["scene", "region", "period"]) if (value(facet)) domain[facet] = value(facet);
  const candidates = value("candidates").split(",").map((item) => item.trim()).filter(Boolean);
  const asked = { user_id: value("user"), candidates, domain, arms: true };
  if (!document.getElementById("query-field").hidden && value("query")) asked.query = value("query");
  return asked;
}

async function rank(asked, before) {
  const { now } = await call(NOW);
  const answer = await call("/v1/score", asked);
  shown = { asked, answer, at: now, clicked: new Set(before?.clicked) };
  draw(before);
  return answer;
}

function draw(before) {
  document.getElementById("rankings").hidden = false;
  const { answer } = shown;
  for (const arm of ["frozen", "live"]) {
    const order = [...answer.arms].sort((one, other) => other[arm] - one[arm]);
    const was = before && [...before.answer.arms].sort((one, other) => other[arm] - one[arm]);
    document.getElementById(arm).replaceChildren(...order.map((item, place) => row(item, arm, place, was)));
  }
  drawAnswer(answer.scores);
}

// The arms' lists are of clicks alone: relevance and conversion, and the order that they make, stand in the answer.
function drawAnswer(scores) {
  const parts = PARTS.filter(([key]) => scores.some((item) => key in item));
  document.getElementById("answered").hidden = parts.length < 2;
  const heads = ["Item", ...parts.map(([, title]) => title)].map((title, place) => element("th", { scope: "col", class: place ? "number" : "" }, title));
  document.getElementById("answered-head").replaceChildren(element("tr", {}, ...heads));
  const rows = scores.map((item) => element("tr", {},
    element("th", { scope: "row", title: item.item_id }, item.item_id),
    ...parts.map(([key, title]) => element("td", { class: "number", "data-label": title }, item[key]?.toFixed(4) ?? ""))));
  document.getElementById("answered-rows").replaceChildren(...rows);
}

function row(item, arm, place, was) {
  const clicked = shown.clicked.has(item.item_id);
  const cells = [
    element("span", { class: clicked ? "item clicked" : "item", title: item.item_id }, item.item_id),
    element("span", { class: "number" }, item[arm].toFixed(4)),
    element("span", { class: "move" }, was ? moved(item, arm, place, was) : ""),
  ];
  if (arm === "live") {
    const click = element("button", { type: "button", "aria-label": `Click ${item.item_id}` }, clicked ? "Clicked" : "Click");
    click.disabled = clicked || !mayClick;
    click.addEventListener("click", () => guarded(() => send(item.item_id, click)));
    cells.push(click);
  }
  return element("li", {}, ...cells);
}

function moved(item, arm, place, was) {
  const before = was.findIndex(({ item_id }) => item_id === item.item_id);
  if (before < 0) return "new";
  const change = item[arm] - was[before][arm];
  const places = before - place;
  const jump = places > 0 ? `▲ ${places}` : places < 0 ? `▼ ${-places}` : "=";
  return `${jump}  ${change >= 0 ? "+" : "−"}${Math.abs(change).toFixed(4)}`;
}

async function send(item, button) {
  const mine = shown;
  const { now } = await call(NOW);
  await call("/v1/events", { event: "feedback", request_id: mine.answer.request_id, item_id: item, time: now, kind: "click" });
  mine.clicked.add(item);
  button.textContent = "Clicked";
  button.disabled = true;
  message.textContent = `Clicked ${item}. Waiting for a kernel that has learned from it; that takes the join's window and a commit.`;
  await wait(mine);
}

// A kernel whose newest example is as new as this request has learned from it: its window is closed.
async function wait(mine) {
  const own = ++watch;
  const until = Date.now() + PATIENCE_MS;
  while (own === watch && shown === mine && Date.now() < until) {
    await new Promise((done) => setTimeout(done, ASK_MS));
    if (document.hidden) continue;
    const { current } = await call("/v1/kernels?last=1");
    const kernel = current.find(({ group }) => group === mine.answer.group);
    if (!kernel?.learning) return void (message.textContent = "Clicked, but learning is stopped: no kernel will know it until it is resumed.");
    if (kernel.newest_event_time >= mine.at) return again(mine);
  }
  if (own === watch && shown === mine) message.textContent = `No kernel has learned from it within ${PATIENCE_MS / 1000} s: rank again later.`;
}

async function again(mine) {
  const answer = await rank(mine.asked, mine);
  message.textContent = `Kernel ${answer.kernel_version} has learned from it (before: ${mine.answer.kernel_version}). What moved is marked.`;
}

async function guarded(work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    message.textContent = `It did not work: ${error.message}`;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  watch += 1;
  const asked = request();
  guarded(async () => {
    const before = shown && JSON.stringify(shown.asked) === JSON.stringify(asked) ? shown : null;
    const answer = await rank(asked, before);
    const served = answer.kernel_version ? `kernel ${answer.kernel_version} is served` : "the frozen arm is served";
    const drawn = answer.explored ? `; the first one was drawn by chance, place ${answer.explored.place} by score` : "";
    message.textContent = `${count(answer.scores.length)} ${answer.scores.length === 1 ? "item" : "items"} ranked in group ${answer.group}; ${served}${drawn}. Click one in the live list.`;
  });
});

// What the backbone and the caller's key let one try.
export function allow(queries, may) {
  document.getElementById("query-field").hidden = !queries;
  mayClick = may.includes("feedback");
  const missing = ["score", "feedback"].filter((right) => !may.includes(right));
  const why = document.getElementById("try-why");
  why.hidden = !missing.length;
  why.textContent = `Your key may not ${missing.join(" or ")}: ${mayRank(may) ? "it ranks, but does not click" : "it ranks nothing"}.`;
  form.querySelector("button[type=submit]").disabled = !mayRank(may);
}

function mayRank(may) {
  return may.includes("score");
}

export function offer(example, strata) {
  const recent = document.getElementById("recent");
  recent.hidden = !example;
  recent.onclick = () => {
    form.elements.user.value = example.user_id;
    form.elements.candidates.value = example.candidates.join(", ");
    form.elements.query.value = example.query ?? "";
    for (const facet of ["scene", "region", "period"]) {
      const value = example.domain[facet];
      form.elements[facet].value = value === "unknown" ? "" : value;
    }
  };
  for (const facet of ["scene", "region", "period"]) {
    const values = strata.filter((name) => name.startsWith(`${facet}=`)).map((name) => name.slice(facet.length + 1));
    fill(document.getElementById(`${facet}s`), values.join("\n"), () => values.map((value) => element("option", { value })));
  }
}
