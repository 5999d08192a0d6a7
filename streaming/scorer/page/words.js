// How numbers, times and verdicts are written. Text goes into the page by textContent alone: names come from outside.

export const VERDICTS = {
  broken_by_us: "broken by us",
  drifting_unhandled: "drifting, not handled",
  input_fault: "input fault",
  labels_faulty: "labels faulty",
  drifting_handled: "drifting, handled",
  too_little_data: "too little data",
  stable: "stable",
};

export const SEVERITY = Object.keys(VERDICTS);

export function verdictName(kind) {
  return VERDICTS[kind] ?? String(kind);
}

export function known(value) {
  return typeof value === "number" && Number.isFinite(value);
}

export function figure(value, digits = 4) {
  return known(value) ? value.toFixed(digits) : "not known";
}

export function count(value) {
  return known(value) ? Math.round(value).toLocaleString("en").replaceAll(",", "\u202f") : "not known";
}

export function clock(seconds, withDay = false) {
  if (!known(seconds) || seconds <= 0) return "not known";
  const date = new Date(seconds * 1000);
  const time = date.toLocaleTimeString("en-GB");
  const day = date.toLocaleDateString("en-CA");
  return withDay || day !== new Date().toLocaleDateString("en-CA") ? `${day} ${time}` : time;
}

export function duration(seconds) {
  if (!known(seconds)) return "not known";
  const long = Math.max(seconds, 0);
  if (long < 9.95) return `${long.toFixed(1)} s`;
  if (long < 90) return `${Math.round(long)} s`;
  if (long < 5400) return `${Math.round(long / 60)} min`;
  if (long < 172800) return `${Math.round(long / 3600)} h`;
  return `${Math.round(long / 86400)} days`;
}

export function since(seconds, now) {
  return known(seconds) && seconds > 0 ? `${clock(seconds)}, ${duration(now - seconds)} ago` : "not known";
}

// A cell with a time, and below it how long ago that was.
export function sinceCell(label, seconds, now) {
  const ago = known(seconds) && seconds > 0 ? [element("span", {}, `${duration(now - seconds)} ago`)] : [];
  return element("td", { "data-label": label, class: "since-when" }, clock(seconds), ...ago);
}

export function stratumName(stratum) {
  return stratum === "group" ? "whole group" : stratum;
}

// An element with text, attributes and children.
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

const shown = new WeakMap();

// New rows, but only if they have changed: focus and open details stay where they are.
export function fill(parent, key, make) {
  if (shown.get(parent) === key) return;
  const focused = document.activeElement?.dataset?.focus;
  const open = new Set([...parent.querySelectorAll("details[open]")].map((one) => one.dataset.focus));
  parent.replaceChildren(...make());
  shown.set(parent, key);
  for (const details of parent.querySelectorAll("details")) details.open = open.has(details.dataset.focus);
  if (focused) [...parent.querySelectorAll("[data-focus]")].find((one) => one.dataset.focus === focused)?.focus();
}
