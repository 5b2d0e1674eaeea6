// The camera and the microphone: what they see and hear is analysed as it comes.

import { PLAIN_SOUND, listen, media, mediaError } from "./audio.js";
import { element } from "./dom.js";
import { scaled } from "./engine.js";
import { Strip } from "./strip.js";

/** @typedef {import("./engine.js").Moment} Moment */
/** @typedef {import("./engine.js").Engine} Engine */

/** The most moments per second; how many there are depends on the machine. */
const RATE = 30;
/** The time between two windows of sound, in seconds. */
const HOP = 0.2;
/** How much earlier than the latency asks the sound of a frame is taken, in seconds: the microphone gives pieces of a
 * twentieth of a second. */
const PIECE = 0.1;
/** How many seconds of the past the strip shows. */
const SHOWN = 20;

export class Camera {
  /**
   * @param {() => Engine} engine
   * @param {import("./stage.js").Stage} stage
   * @param {(moment: Moment | null, note: string) => void} report
   */
  constructor(engine, stage, report) {
    this.engine = engine;
    this.stage = stage;
    this.report = report;
    this.controls = element("live", HTMLElement);
    this.speed = element("live-speed", HTMLElement);
    this.strip = new Strip(element("live-strip", HTMLCanvasElement));
    this.facing = "environment";
    this.session = 0;
    this.active = false;
    /** @type {Moment[]} */
    this.past = [];
    /** When moments came, in milliseconds. @type {number[]} */
    this.arrivals = [];
    this.ms = 0;
    /** @type {Awaited<ReturnType<typeof listen>> | null} */
    this.sound = null;
    element("live-stop", HTMLButtonElement).addEventListener("click", () => this.stop());
  }

  /** Chooses the camera on the other side of the device for the next start. */
  turn() {
    this.facing = this.facing === "user" ? "environment" : "user";
  }

  /** Looks and listens until it is stopped, started again or fails. */
  async start() {
    const stopped = this.stop();
    this.active = true;
    const { session } = this;
    const current = () => session === this.session;
    try {
      await stopped;
      await this.run(current);
    } catch (error) {
      // What was stopped on purpose may fail.
      if (!current()) return;
      await this.stop();
      throw error;
    }
  }

  /** @param {() => boolean} current whether it is to go on */
  async run(current) {
    const stream = await this.open();
    if (!current()) return stream.getTracks().forEach((track) => track.stop());
    const { video } = this.stage;
    video.muted = true;
    video.srcObject = stream;
    await video.play();
    if (!current()) return;
    this.stage.setVideo();
    this.controls.hidden = false;
    const engine = this.engine();
    let heard = 0;
    let heardAt = performance.now();
    let rate = 0;
    /** @type {Float32Array[]} */
    const early = [];
    const take = (/** @type {Float32Array} */ samples) => {
      if (!current()) return;
      heard += samples.length;
      heardAt = performance.now();
      if (!rate) return void early.push(samples);
      engine.call("watchSound", { samples, threshold: this.stage.threshold }, [samples.buffer]).catch(() => {});
    };
    const sound = await listen(stream, take);
    if (!current()) return sound.end();
    this.sound = sound;
    const latency = await engine.call("watch", { sampleRate: sound.rate, rate: RATE, hop: HOP, smoothing: 0 });
    rate = sound.rate;
    early.forEach((samples) => engine.call("watchSound", { samples, threshold: this.stage.threshold }).catch(() => {}));
    let last = 0;
    while (current()) {
      // The microphone's clock counts; it goes on between its pieces.
      const time = heard / rate + Math.min((performance.now() - heardAt) / 1000, 0.2) - latency - PIECE;
      if (time <= last || video.readyState < 2) {
        await new Promise((resolve) => setTimeout(resolve, 5));
        continue;
      }
      last = time;
      const frame = this.stage.grab(video);
      const scale = video.videoWidth / frame.width;
      const params = { time, frame, threshold: this.stage.threshold };
      const { moments, ms } = await engine.call("watchFrame", params, [frame.data.buffer]);
      if (!current()) return;
      this.ms = ms;
      this.take(moments, scale);
    }
  }

  /** A stream with picture and sound; an error says which of them is missing. */
  async open() {
    const video = { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: this.facing };
    try {
      return await media({ video, audio: PLAIN_SOUND }, "camera and microphone");
    } catch (error) {
      const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
      const lacks = (/** @type {string} */ kind) => !devices.some((device) => device.kind === kind);
      const missing = [lacks("videoinput") ? "camera" : "", lacks("audioinput") ? "microphone" : ""].filter(Boolean);
      throw missing.length && navigator.mediaDevices
        ? mediaError(new DOMException("", "NotFoundError"), missing.join(" and no "))
        : error;
    }
  }

  /** @param {Moment[]} moments @param {number} scale from the analysed frame to the camera's */
  take(moments, scale) {
    const now = performance.now();
    this.arrivals.push(...moments.map(() => now));
    this.arrivals = this.arrivals.filter((arrival) => now - arrival < 2000);
    this.past.push(...moments);
    const moment = moments.at(-1);
    if (!moment) return;
    this.past = this.past.filter(({ time }) => time > moment.time - SHOWN);
    const findings = scaled(moment, scale);
    this.stage.show(moment.logits, moment.sounding ? findings : null, moment.sounding ? 1 : 0);
    const since = Math.min(2000, now - (this.arrivals[0] ?? now)) / 1000;
    this.speed.textContent = since > 0.5 ? `${(this.arrivals.length / since).toFixed(0)} frames per second` : "";
    this.speed.dataset.rate = String(since > 0.5 ? this.arrivals.length / since : 0);
    this.strip.draw(this.past, moment.time - SHOWN, moment.time, null, 0.2);
    this.report(findings, "");
  }

  async stop() {
    this.session++;
    const { video } = this.stage;
    const sound = this.sound;
    this.sound = null;
    this.active = false;
    this.past = [];
    this.arrivals = [];
    if (video.srcObject instanceof MediaStream) {
      video.srcObject.getTracks().forEach((track) => track.stop());
      // Only then: to set it loads anew whatever the element has, and that may be a film.
      video.srcObject = null;
    }
    this.controls.hidden = true;
    await sound?.end();
  }
}
