// The confidence over time, below films and the camera.

import { color, fitted } from "./dom.js";

/** The confidences at the bottom and at the top of a strip. */
const [LOW, HIGH] = [-0.1, 0.5];

export class Strip {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
  }

  /**
   * @param {{ time: number, confidence: number, sounding: boolean, cut: boolean }[]} moments in the order of time
   * @param {number} from the time at the left edge
   * @param {number} to the time at the right edge
   * @param {number | null} now where the mark is
   * @param {number} step the longest time between neighbours
   */
  draw(moments, from, to, now, step) {
    const { context, width, height, ratio } = fitted(this.canvas);
    const x = (/** @type {number} */ time) => ((time - from) / (to - from)) * width;
    const y = (/** @type {number} */ confidence) => {
      const share = Math.min(Math.max((confidence - LOW) / (HIGH - LOW), 0.04), 1);
      return height - share * (height - 2 * ratio);
    };
    const [sounds, silent] = [color("--accent"), color("--faint")];
    moments.forEach((moment, i) => {
      const next = moments[i + 1];
      const end = next && next.time - moment.time <= step * 1.5 ? next.time : moment.time + step;
      context.fillStyle = moment.sounding ? sounds : silent;
      const top = y(moment.confidence);
      context.fillRect(x(moment.time), top, Math.max(x(end) - x(moment.time) + 0.5, 1), height - top);
      if (moment.cut) {
        context.fillStyle = color("--ink");
        context.fillRect(x(moment.time), 0, ratio, height);
      }
    });
    if (now !== null) {
      context.fillStyle = color("--ink");
      context.fillRect(x(now) - ratio, 0, 2 * ratio, height);
    }
  }
}
