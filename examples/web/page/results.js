// What was found, in numbers.

import { element } from "./dom.js";

/** @typedef {import("./engine.js").Findings} Findings */
/** @typedef {import("./engine.js").Box} Box */

/** @param {string} id @param {string} value */
function text(id, value) {
  element(id, HTMLElement).textContent = value;
}

/** The words over the picture. @param {string} words */
export function showBadge(words) {
  text("badge", words);
  element("badge", HTMLElement).hidden = !words;
}

/** How long what took, in milliseconds. @param {Record<string, number | undefined>} times */
export function showTimes(times) {
  const known = Object.entries(times).flatMap(([what, ms]) => (ms ? `${what} ${ms.toFixed(ms < 10 ? 1 : 0)} ms` : []));
  text("times", known.join(" · ") || "–");
}

/**
 * Shows findings, and which files can be made of them.
 * @param {Findings | null} findings
 * @param {number | undefined} confidence may be known before the findings
 * @param {boolean} pictures whether pictures can be made of them, too
 */
export function showResult(findings, confidence, pictures) {
  element("confidence", HTMLMeterElement).value = confidence ?? -1;
  text("confidence-text", confidence?.toFixed(2) ?? "–");
  // Models that are not calibrated give none.
  const presence = findings?.presence ?? null;
  text("presence", presence === null ? "–" : `${(100 * presence).toFixed(0)} %`);
  const whole = Math.round;
  text("peak", findings ? `${whole(findings.peak.x)}, ${whole(findings.peak.y)} · ${findings.peak.score.toFixed(2)}` : "–");
  text("area", findings ? `${(findings.area * 100).toFixed(1)} %` : "–");
  const boxes = findings?.boxes ?? [];
  const size = (/** @type {Box} */ box) => `${whole(box.width)} × ${whole(box.height)} at ${whole(box.x)}, ${whole(box.y)}`;
  const more = boxes.length > 2 ? ` and ${boxes.length - 2} more` : "";
  text("boxes", findings ? boxes.slice(0, 2).map(size).join("; ") + more || "none" : "–");
  element("save-overlay", HTMLButtonElement).disabled = !findings || !pictures;
  element("save-heatmap", HTMLButtonElement).disabled = !findings || !pictures;
  element("save-json", HTMLButtonElement).disabled = !findings;
}
