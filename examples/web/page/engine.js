// The page's side of the worker: calls that return promises.

/**
 * @typedef {{ x: number, y: number, score: number }} Peak
 * @typedef {{ x: number, y: number, width: number, height: number, score: number }} Box
 * @typedef {{ confidence: number, presence?: number | null, present?: boolean | null, threshold?: number, peak: Peak,
 *   area: number, boxes: Box[] }} Findings
 * @typedef {Findings & { time: number, level: number, sounding: boolean, cut: boolean, logits: Float32Array }} Moment
 * @typedef {{ name: string, seconds: number, side: number, prompt: string, offset: number, colors: Uint8Array<ArrayBuffer>,
 *   megabytes: number, classes: string[] | null }} Card
 */

/**
 * Findings in larger or smaller pixels.
 * @template {Findings} F
 * @param {F} findings @param {number} scale
 * @returns {F}
 */
export function scaled(findings, scale) {
  const { peak, boxes } = findings;
  const place = { x: peak.x * scale, y: peak.y * scale, score: peak.score };
  const size = (/** @type {Box} */ { x, y, width, height, score }) => ({
    x: x * scale, y: y * scale, width: width * scale, height: height * scale, score,
  });
  return { ...findings, peak: place, boxes: boxes.map(size) };
}

/** The worker stopped for good: a panic, or no memory left. */
export class EngineStopped extends Error {}

/** A worker with a model. */
export class Engine {
  constructor() {
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.next = 0;
    /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void, progress?: (done: number) => void }>} */
    this.waiting = new Map();
    this.worker.addEventListener("message", ({ data }) => {
      const call = this.waiting.get(data.id);
      if (!call) return;
      if (data.progress !== undefined) return call.progress?.(data.progress);
      this.waiting.delete(data.id);
      if (data.error === undefined) call.resolve(data.result);
      else call.reject(data.fatal ? new EngineStopped(data.error) : new Error(data.error));
    });
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.stop(new EngineStopped(event.message || "the browser cannot start the worker of the page"));
    });
  }

  /**
   * @param {string} method one of those in worker.js
   * @param {object} [params]
   * @param {Transferable[]} [transfer] what in `params` is handed over instead of being copied
   * @param {(done: number) => void} [progress]
   * @returns {Promise<any>}
   */
  call(method, params = {}, transfer = [], progress = undefined) {
    return new Promise((resolve, reject) => {
      const id = this.next++;
      this.waiting.set(id, { resolve, reject, progress });
      this.worker.postMessage({ id, method, params }, transfer);
    });
  }

  /** Ends the worker; calls that are not finished fail. @param {Error} [reason] */
  stop(reason = new EngineStopped("the model was replaced")) {
    this.worker.terminate();
    for (const { reject } of this.waiting.values()) reject(reason);
    this.waiting.clear();
  }
}
