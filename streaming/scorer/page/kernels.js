// Kernels in use, what was ordered of them, and the operator's hand.

import { Refused, call } from "./api.js";
import { clock, count, duration, element, fill } from "./words.js";

const ROWS = 8;
const OBEY_TRIES = 20;
const OBEY_MS = 500;

const WORDS = {
  pin: (group, version) => [`Pin version ${version} of ${group}`, `Every scorer serves version ${version} until you resume; learning goes on.`],
  rollback: (group) => [`Roll ${group} back`, "Every scorer serves the version before the one that is served now, until you resume; learning goes on."],
  freeze: (group) => [`Freeze ${group}`, "Every scorer serves the frozen arm until you resume; learning goes on."],
  stop_learning: (group) => [`Stop the learning of ${group}`, "The kernel stays as it is until you resume; what is served goes on."],
  resume: (group) => [`Resume ${group}`, "Every order ends: the newest published kernel is served again, and the processor learns."],
};

export function drawKernels(current, swaps, status, now, order, mayOrder) {
  const served = document.getElementById("served");
  served.textContent = current ? servedWords(current, status, now) : "";
  document.getElementById("ordered").textContent = current ? orderedWords(current) : "";
  const rows = swaps.filter((swap) => swap.group === current?.group).slice(-ROWS).reverse();
  document.getElementById("versions-empty").hidden = rows.length > 0;
  document.getElementById("versions").hidden = rows.length === 0;
  const key = JSON.stringify([rows, current?.version, current?.pinned, mayOrder]);
  fill(document.getElementById("versions").tBodies[0], key, () => rows.map((swap) => row(swap, current, order, mayOrder)));
  document.getElementById("orders-why").hidden = mayOrder;
  for (const button of document.querySelectorAll("#orders button")) button.disabled = !current || !mayOrder;
}

function servedWords(current, status, now) {
  if (current.frozen) return "The frozen arm is served.";
  if (!current.version) return "No kernel is served yet: the frozen arm answers.";
  const fresh = current.newest_event_time;
  const age = fresh ? ` It knows what was shown up to ${duration(now - fresh)} ago.` : "";
  const stopped = status?.held ? " The gate holds back newer ones." : "";
  return `Version ${current.version} is served.${age}${stopped}`;
}

function orderedWords(current) {
  const orders = [];
  if (current.pinned !== null) orders.push(`version ${current.pinned} is pinned`);
  if (current.frozen) orders.push("the group is frozen");
  if (!current.learning) orders.push("learning is stopped");
  const by = current.by ? ` (${current.by}, ${clock(current.ordered_at)}${current.why ? `: ${current.why}` : ""})` : "";
  return orders.length ? `Ordered: ${orders.join(", ")}${by}.` : `Nothing is ordered: the newest published kernel, ${current.published || "none yet"}, is served.`;
}

function row(swap, current, order, mayOrder) {
  const pinned = current.pinned === swap.version;
  const state = pinned ? "pinned" : swap.version === current.version ? "served" : "";
  const pin = element("button", { type: "button", "data-focus": `pin-${swap.version}`, "aria-label": `Pin version ${swap.version}` }, "Pin");
  pin.disabled = pinned || !mayOrder;
  pin.addEventListener("click", () => order("pin", swap.version));
  return element("tr", {},
    element("th", { scope: "row" }, `${swap.version} `, element("span", { class: "hint" }, state)),
    element("td", { "data-label": "In use since" }, clock(swap.taken_at)),
    element("td", { "data-label": "Fresh", class: "number" }, swap.at_start || swap.ordered ? "" : duration(swap.freshness_s)),
    element("td", { "data-label": "Examples", class: "number" }, count(swap.examples)),
    element("td", { class: "number" }, pin));
}

// Asks who and why, orders it, and waits until this scorer says that it obeys. Gives a sentence, or null if left.
export async function giveOrder(kind, group, version, say) {
  const dialog = document.getElementById("order-dialog");
  const [title, words] = WORDS[kind](group, version);
  document.getElementById("order-title").textContent = title;
  document.getElementById("order-words").textContent = words;
  document.getElementById("order-why").value = "";
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  if (dialog.returnValue !== "give") return;
  say(`${title}: asked`);
  const body = { group, order: kind, by: document.getElementById("order-by").value, why: document.getElementById("order-why").value };
  if (version !== undefined) body.version = version;
  try {
    const given = await call("/v1/orders", body);
    say(`${title}: ordered; waiting until this scorer obeys`);
    say(await obeyed(given, title));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(`${title}: not ordered. ${error.message}`, true);
  }
}

async function obeyed(given, title) {
  for (let left = OBEY_TRIES; left > 0; left -= 1) {
    const { current } = await call("/v1/kernels?last=1");
    const now = current.find(({ group }) => group === given.group);
    if (now?.ordered_at === given.time) return `${title}: done, ${now.version ? `version ${now.version}` : "the frozen arm"} is served.`;
    await new Promise((done) => setTimeout(done, OBEY_MS));
  }
  return `${title}: ordered, but this scorer has not obeyed yet; look at its log.`;
}
