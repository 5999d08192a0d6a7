// How the conversion task of a group does, where its backbone tells conversions.

import { count, element, figure, fill, known, stratumName } from "./words.js";

export function drawConversions(conversions) {
  document.getElementById("conversions").hidden = !conversions;
  if (!conversions) return;
  const rate = known(conversions.rate) ? `${(100 * conversions.rate).toFixed(1)} % of the recent clicks that are final converted` : "No click is final yet";
  document.getElementById("converted").textContent = `${rate}. ${count(conversions.learned)} clicks were learned since the processor took the group over.`;
  document.getElementById("conversions-held").textContent = held(conversions);
  const arms = Object.entries(conversions.arms);
  document.getElementById("conversion-arms").hidden = arms.length === 0;
  fill(document.getElementById("conversion-arms").tBodies[0], JSON.stringify(arms), () => arms.map(([arm, { log_loss, auc, calibration }]) => element("tr", {},
    element("th", { scope: "row" }, arm),
    element("td", { class: "number" }, figure(log_loss, 3)),
    element("td", { class: "number" }, figure(auc, 3)),
    element("td", { class: "number" }, figure(calibration, 2)))));
}

function held(conversions) {
  if (conversions.set_aside.length) return `Their labels are not believed in ${conversions.set_aside.map(stratumName).join(", ")}: nothing is learned there until they are as expected again.`;
  if (conversions.held) return `The gate holds back what it learns: ${conversions.held}.`;
  return "Labels are as expected, and what it learns is published.";
}
