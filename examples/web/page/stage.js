// The picture, film or camera, and the heatmap over it.

import { calm, element, fitted } from "./dom.js";
import { ScoreGrid } from "./heat.js";

/** @typedef {import("./engine.js").Findings} Findings */

/** The longest side of the grid that scores are painted on; its pixels are smoothed on the screen. */
const GRID_SIDE = 320;
/** How long a heatmap turns into another one, in milliseconds. */
const TURN = 260;

export class Stage {
  /** @param {() => void} thresholdChanged */
  constructor(thresholdChanged) {
    this.frame = element("frame", HTMLElement);
    this.picture = element("picture", HTMLCanvasElement);
    this.video = element("video", HTMLVideoElement);
    this.heat = element("heat", HTMLCanvasElement);
    this.colors = new Uint8Array(768);
    this.offset = 0;
    /** The side of the pictures that the model sees. */
    this.side = 64;
    this.threshold = 0.5;
    this.opacity = 0.7;
    this.marks = true;
    /** The size of what is shown, in its own pixels. */
    this.size = { width: 3, height: 2 };
    /** @type {Float32Array | null} */
    this.logits = null;
    /** @type {Findings | null} */
    this.findings = null;
    /** How much of the heatmap is visible, 0..1. */
    this.strength = 1;
    this.grid = new ScoreGrid(1, 1);
    this.painted = new OffscreenCanvas(1, 1);
    this.turning = 0;
    // In memory and not on the graphics card, from which reading takes long.
    this.grabbed = /** @type {OffscreenCanvasRenderingContext2D} */ (
      new OffscreenCanvas(1, 1).getContext("2d", { alpha: false, willReadFrequently: true })
    );
    new ResizeObserver(() => this.draw()).observe(this.frame);
    for (const name of /** @type {const} */ (["threshold", "opacity"])) {
      const slider = element(name, HTMLInputElement);
      slider.addEventListener("input", () => {
        this[name] = Number(slider.value);
        element(`${name}-text`, HTMLElement).textContent = this[name].toFixed(2);
        this.draw();
        if (name === "threshold") thresholdChanged();
      });
    }
    const marks = element("marks", HTMLInputElement);
    marks.addEventListener("change", () => {
      this.marks = marks.checked;
      this.draw();
    });
  }

  /** Shows a picture. @param {ImageBitmap} bitmap @param {number} width @param {number} height */
  setPicture(bitmap, width, height) {
    this.picture.width = bitmap.width;
    this.picture.height = bitmap.height;
    this.picture.getContext("2d")?.drawImage(bitmap, 0, 0);
    bitmap.close();
    this.video.hidden = true;
    this.picture.hidden = false;
    this.setSize(width, height);
  }

  /** Shows the video element, which has a size by now. */
  setVideo() {
    this.picture.hidden = true;
    this.video.hidden = false;
    this.setSize(this.video.videoWidth, this.video.videoHeight);
  }

  /** @param {number} width @param {number} height */
  setSize(width, height) {
    this.size = { width, height };
    this.frame.style.setProperty("--width", String(width));
    this.frame.style.setProperty("--height", String(height));
    const scale = GRID_SIDE / Math.max(width, height);
    this.grid = new ScoreGrid(Math.max(2, Math.round(width * scale)), Math.max(2, Math.round(height * scale)));
    this.painted = new OffscreenCanvas(this.grid.width, this.grid.height);
    this.clear();
  }

  /**
   * The size in which frames of the video are analysed: a few times what the model sees.
   * @returns {{ width: number, height: number }}
   */
  frameSize() {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, Math.max(256, 2 * this.side) / Math.max(videoWidth, videoHeight));
    return { width: Math.max(1, Math.round(videoWidth * scale)), height: Math.max(1, Math.round(videoHeight * scale)) };
  }

  /** The present frame of a video, to be analysed. @param {HTMLVideoElement} video */
  grab(video) {
    const { width, height } = this.frameSize();
    if (this.grabbed.canvas.width !== width || this.grabbed.canvas.height !== height) {
      Object.assign(this.grabbed.canvas, { width, height });
    }
    this.grabbed.drawImage(video, 0, 0, width, height);
    return this.grabbed.getImageData(0, 0, width, height);
  }

  /** Nothing over the picture. */
  clear() {
    cancelAnimationFrame(this.turning);
    this.logits = null;
    this.findings = null;
    this.draw();
  }

  /**
   * Shows a heatmap at once.
   * @param {Float32Array | null} logits
   * @param {Findings | null} findings in pixels of what is shown
   * @param {number} strength
   */
  show(logits, findings, strength = 1) {
    cancelAnimationFrame(this.turning);
    this.logits = logits;
    this.findings = findings;
    this.strength = strength;
    this.draw();
  }

  /** Lets the present heatmap turn into another one. @param {Float32Array} logits */
  turnInto(logits) {
    const from = this.logits;
    if (calm() || document.hidden || (from && from.length !== logits.length)) return this.show(logits, null);
    cancelAnimationFrame(this.turning);
    this.findings = null;
    const start = performance.now();
    const between = new Float32Array(logits.length);
    const step = (/** @type {number} */ now) => {
      const time = Math.min(Math.max((now - start) / TURN, 0), 1);
      const share = time * time * (3 - 2 * time);
      if (from) {
        for (let i = 0; i < between.length; i++) between[i] = from[i] + (logits[i] - from[i]) * share;
      }
      this.logits = time === 1 ? logits : from ? between : logits;
      this.strength = from ? 1 : share;
      this.draw();
      if (time < 1) this.turning = requestAnimationFrame(step);
    };
    step(start);
  }

  /** @param {Findings | null} findings */
  setFindings(findings) {
    this.findings = findings;
    this.draw();
  }

  draw() {
    const { context, width, height, ratio } = fitted(this.heat);
    if (!this.logits || this.strength <= 0) return;
    const { grid } = this;
    grid.fill(this.logits, this.offset);
    const small = /** @type {OffscreenCanvasRenderingContext2D} */ (this.painted.getContext("2d"));
    const image = small.createImageData(grid.width, grid.height);
    grid.paint(image, this.colors, this.opacity * this.strength);
    small.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "medium";
    context.drawImage(this.painted, 0, 0, width, height);
    context.globalAlpha = this.strength;
    this.stroke(context, grid.outline(this.threshold, width / grid.width, height / grid.height), 2 * ratio);
    if (this.marks && this.findings) this.drawFindings(context, this.findings, width, height, ratio);
    context.globalAlpha = 1;
  }

  /**
   * A white line with a dark rim, visible on any picture.
   * @param {CanvasRenderingContext2D} context @param {Path2D} path @param {number} line
   */
  stroke(context, path, line) {
    context.lineJoin = context.lineCap = "round";
    context.strokeStyle = "rgb(0 0 0 / 0.5)";
    context.lineWidth = line * 2;
    context.stroke(path);
    context.strokeStyle = "rgb(255 255 255 / 0.95)";
    context.lineWidth = line;
    context.stroke(path);
  }

  /**
   * @param {CanvasRenderingContext2D} context @param {Findings} findings
   * @param {number} width @param {number} height @param {number} ratio
   */
  drawFindings(context, findings, width, height, ratio) {
    const [scaleX, scaleY] = [width / this.size.width, height / this.size.height];
    const boxes = new Path2D();
    for (const box of findings.boxes) {
      boxes.rect(box.x * scaleX, box.y * scaleY, box.width * scaleX, box.height * scaleY);
    }
    context.setLineDash([5 * ratio, 4 * ratio]);
    this.stroke(context, boxes, 1 * ratio);
    context.setLineDash([]);
    const [x, y] = [(findings.peak.x + 0.5) * scaleX, (findings.peak.y + 0.5) * scaleY];
    const cross = new Path2D();
    cross.arc(x, y, 5 * ratio, 0, 2 * Math.PI);
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      cross.moveTo(x + dx * 5 * ratio, y + dy * 5 * ratio);
      cross.lineTo(x + dx * 11 * ratio, y + dy * 11 * ratio);
    }
    this.stroke(context, cross, 1.5 * ratio);
  }
}
