// A film: it is analysed a little ahead of what is shown, by a second video element that nobody sees.

import { decoded } from "./audio.js";
import { clock, element, icon } from "./dom.js";
import { scaled } from "./engine.js";
import { Strip } from "./strip.js";

/** @typedef {import("./engine.js").Moment} Moment */
/** @typedef {import("./engine.js").Engine} Engine */

/** Analysed moments per second. */
const RATE = 5;
/** Within how many seconds neighbouring moments are combined. */
const SMOOTHING = 0.6;
/** How far ahead the film is analysed, and how little of that lets it go on after a wait, in seconds. */
const [LEAD, ENOUGH] = [2.5, 0.8];
/** The least time between two paintings of the heatmap, in milliseconds. */
const PAINT = 40;
/** Samples per second of the sound, where the browser decodes it. */
const SOUND_RATE = 16_000;
/** How much memory the heatmaps of a film may take, in bytes; older ones are dropped and computed again. */
const KEPT = 96e6;

const slotOf = (/** @type {number} */ time) => Math.floor((time + 1e-3) * RATE);

/** Until `target` reports `event`, or an error. @param {EventTarget} target @param {string} event */
function until(target, event) {
  return new Promise((resolve, reject) => {
    target.addEventListener(event, resolve, { once: true });
    target.addEventListener("error", reject, { once: true });
  });
}

export class Film {
  /**
   * @param {() => Engine} engine
   * @param {import("./stage.js").Stage} stage
   * @param {(moment: Moment | null, note: string) => void} report what is known of the present moment
   * @param {(error: unknown) => void} complain
   */
  constructor(engine, stage, report, complain) {
    this.engine = engine;
    this.stage = stage;
    this.report = report;
    this.complain = complain;
    this.video = stage.video;
    this.ahead = document.createElement("video");
    this.ahead.muted = true;
    this.ahead.playsInline = true;
    this.controls = element("transport", HTMLElement);
    this.playButton = element("film-play", HTMLButtonElement);
    this.muteButton = element("film-mute", HTMLButtonElement);
    this.range = element("film-position", HTMLInputElement);
    this.time = element("film-time", HTMLElement);
    this.strip = new Strip(element("film-strip", HTMLCanvasElement));
    this.name = "";
    this.url = "";
    this.active = false;
    this.wantsToPlay = false;
    /** The session of the analysis; a later one ends it. */
    this.session = 0;
    /** The analysis that is going on. @type {object | null} */
    this.running = null;
    this.msPerMoment = 0;
    /** @type {Map<number, Moment>} */
    this.moments = new Map();
    /** @type {Float32Array | null} */
    this.sound = null;
    this.soundRate = SOUND_RATE;
    this.playButton.addEventListener("click", () => this.toggle());
    this.muteButton.addEventListener("click", () => {
      this.video.muted = !this.video.muted;
      this.showState();
    });
    this.range.addEventListener("input", () => {
      this.video.currentTime = Number(this.range.value);
    });
    this.video.addEventListener("click", () => this.active && this.toggle());
  }

  /** Opens a film in place of the one that is open. @param {string} name @param {Blob | Promise<Blob>} file */
  async open(name, file) {
    this.close();
    this.active = true;
    const session = this.session;
    const blob = await file;
    if (session !== this.session) return;
    this.name = name;
    this.url = URL.createObjectURL(blob);
    for (const video of [this.ahead, this.video]) {
      video.src = this.url;
      const loaded = await until(video, "loadeddata").then(() => true, () => false);
      // Another film may have been opened meanwhile: it has the video elements now.
      if (session !== this.session) return;
      if (!loaded) throw new Error(`${name}: the browser cannot play this film`);
    }
    if (!this.video.videoWidth) throw new Error(`${name}: unusable film: expected a picture track, found only sound`);
    this.video.loop = false;
    this.video.muted = false;
    this.stage.setVideo();
    this.controls.hidden = false;
    this.range.max = String(this.video.duration);
    this.showState();
    this.report(null, "Listening to the film …");
    let error;
    this.soundRate = SOUND_RATE;
    this.sound = await decoded(blob, SOUND_RATE);
    if (!this.sound) {
      // The library's own decoder knows other formats, and says what is wrong.
      const result = await this.engine().call("filmSound", { name, blob }).catch((reason) => void (error = reason));
      if (result) [this.sound, this.soundRate] = [result.samples, result.rate];
    }
    if (session !== this.session) return;
    if (!this.sound) {
      this.report(null, "Without sound there is nothing to look for.");
      this.follow();
      throw error;
    }
    this.wantsToPlay = true;
    this.showState();
    this.follow();
  }

  close() {
    this.session++;
    this.active = false;
    this.running = null;
    this.wantsToPlay = false;
    this.sound = null;
    this.moments.clear();
    for (const video of [this.video, this.ahead]) {
      video.pause();
      video.removeAttribute("src");
      video.load();
    }
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = "";
    this.controls.hidden = true;
  }

  /** Plays the video; it is no failure if it is paused or closed before it begins. */
  play() {
    return this.video.play().catch((error) => {
      if (error.name !== "AbortError") throw error;
    });
  }

  toggle() {
    if (this.video.ended) this.video.currentTime = 0;
    this.wantsToPlay = !this.wantsToPlay;
    if (!this.sound && this.wantsToPlay) this.play().catch(this.complain);
    if (!this.wantsToPlay) this.video.pause();
    this.showState();
  }

  showState() {
    this.playButton.replaceChildren(icon(this.wantsToPlay ? "pause" : "play"));
    this.playButton.setAttribute("aria-label", this.wantsToPlay ? "Pause the film" : "Play the film");
    this.muteButton.replaceChildren(icon(this.video.muted ? "muted" : "sound"));
    this.muteButton.setAttribute("aria-label", this.video.muted ? "Turn the sound on" : "Turn the sound off");
  }

  /** How many seconds from `time` on are analysed, up to a little more than the lead. @param {number} time */
  lead(time) {
    const last = slotOf(this.video.duration - 0.5 / RATE);
    let slot = slotOf(time);
    const first = slot;
    while (slot <= last && slot - first < (LEAD + 1) * RATE) {
      if (!this.moments.has(slot)) return (slot - first) / RATE;
      slot++;
    }
    return Infinity;
  }

  /** Follows the film on the screen: paints, starts and ends the analysis, waits for it. */
  follow() {
    const session = this.session;
    let painted = "";
    let paintedAt = 0;
    const step = (/** @type {number} */ now) => {
      if (session !== this.session) return;
      requestAnimationFrame(step);
      const { video } = this;
      const time = video.currentTime;
      if (this.sound) this.steer(time);
      // Only what is new, and no oftener than eyes need: the rest of the processor belongs to the model.
      const state = `${time} ${this.moments.size} ${this.wantsToPlay} ${this.running !== null}`;
      if (state === painted || now - paintedAt < PAINT) return;
      [painted, paintedAt] = [state, now];
      if (this.sound) this.paint(time);
      if (document.activeElement !== this.range || !video.paused) this.range.value = String(time);
      this.range.setAttribute("aria-valuetext", `${clock(time)} of ${clock(video.duration)}`);
      this.time.textContent = `${clock(time)} / ${clock(video.duration)}`;
    };
    requestAnimationFrame(step);
  }

  /** Starts the analysis where it is needed, and lets the film wait for it. @param {number} time */
  steer(time) {
    const { video } = this;
    const lead = this.lead(time);
    if (lead < LEAD && !this.running) this.analyse(time + lead).catch(this.complain);
    if (this.wantsToPlay && video.paused && !video.ended && lead >= ENOUGH) {
      this.play().catch(() => {
        // Browsers play sound only after a click; the film can be seen all the same.
        video.muted = true;
        this.showState();
        return this.play().catch(this.complain);
      });
    }
    if (!video.paused && lead <= 0.5 / RATE) video.pause();
    if (video.ended && this.wantsToPlay) {
      this.wantsToPlay = false;
      this.showState();
    }
  }

  /** Starts again with another model. */
  analyseAgain() {
    this.moments.clear();
    this.running = null;
  }

  /** @param {number} time */
  paint(time) {
    const moment = this.moments.get(slotOf(time));
    if (!moment) {
      this.stage.show(null, null);
      this.report(null, this.wantsToPlay || this.running ? "Analysing …" : "");
    } else {
      const next = this.moments.get(slotOf(time) + 1);
      const share = next && !next.cut ? Math.min(Math.max((time - moment.time) * RATE, 0), 1) : 0;
      const logits = next && share > 0 ? between(moment.logits, next.logits, share) : moment.logits;
      const [from, to] = [Number(moment.sounding), Number(next?.sounding ?? moment.sounding)];
      const findings = this.scaled(moment);
      this.stage.show(logits, moment.sounding ? findings : null, from + (to - from) * share);
      this.report(findings, "");
    }
    this.strip.draw(this.inOrder(), 0, this.video.duration, time, 1 / RATE);
  }

  inOrder() {
    return [...this.moments.values()].sort((a, b) => a.time - b.time);
  }

  /** The findings of a moment in pixels of the film. @param {Moment} moment */
  scaled(moment) {
    return scaled(moment, this.video.videoWidth / this.stage.frameSize().width);
  }

  /** Analyses from `start` until the lead is enough; the film on the screen starts it again. @param {number} start */
  async analyse(start) {
    const { session, ahead } = this;
    const sound = /** @type {Float32Array} */ (this.sound);
    const engine = this.engine();
    const run = {};
    this.running = run;
    // The moments before `start` are known; the second before it is needed for the sound around it.
    const base = Math.max(0, Math.floor((start - 1.5) * RATE)) / RATE;
    const current = () => session === this.session && this.running === run;
    const keep = (/** @type {Moment[]} */ moments) => current() && this.keep(moments, base);
    try {
      const first = Math.max(base, start - SMOOTHING - 0.5 / RATE);
      await engine.call("watch", { sampleRate: this.soundRate, rate: RATE, hop: 1 / RATE, smoothing: SMOOTHING });
      let heard = Math.round(base * this.soundRate);
      const hear = async (/** @type {number} */ time) => {
        const end = Math.round(time * this.soundRate);
        if (end <= heard) return;
        // Beyond its end the sound is silent.
        const samples = new Float32Array(end - heard);
        samples.set(sound.subarray(heard, end));
        heard = end;
        keep(await engine.call("watchSound", { samples, threshold: this.stage.threshold }, [samples.buffer]));
      };
      let last = -1;
      for (let slot = slotOf(first); current(); slot++) {
        const time = Math.max((slot + 0.02) / RATE, first);
        if (time > this.video.duration - 1e-3) {
          await hear(this.video.duration + 2);
          keep(await engine.call("watchEnd", { threshold: this.stage.threshold }));
          if (current()) this.fillTo(this.video.duration);
          break;
        }
        await this.seekAhead(time);
        if (!current()) return;
        const frame = this.stage.grab(ahead);
        await hear(time + 1);
        if (!current()) return;
        const params = { time: Math.max(time - base, last + 1e-3), frame, threshold: this.stage.threshold };
        last = params.time;
        const { moments, ms } = await engine.call("watchFrame", params, [frame.data.buffer]);
        if (!current()) return;
        keep(moments);
        this.msPerMoment = ms;
        // Far enough ahead, or the visitor went elsewhere.
        while (current() && this.lead(this.video.currentTime) >= LEAD + SMOOTHING) {
          await new Promise((resolve) => setTimeout(resolve, 60));
        }
        const lead = this.lead(this.video.currentTime);
        const here = this.video.currentTime + lead;
        // Up to `start`, frames are only seen for the sake of the moments after it.
        if (Number.isFinite(lead) && (here < start - 0.5 / RATE || here > Math.max(time, start) + 2 / RATE)) break;
      }
    } catch (error) {
      // Not again and again; a model that was replaced is no failure.
      if (!current()) return;
      this.sound = null;
      throw error;
    } finally {
      if (this.running === run) this.running = null;
    }
  }

  /** Shows the frame at `time` in the video element that nobody sees. @param {number} time */
  async seekAhead(time) {
    const seeked = until(this.ahead, "seeked");
    this.ahead.currentTime = time;
    await seeked;
  }

  /** @param {Moment[]} moments @param {number} base what their times are relative to */
  keep(moments, base) {
    for (const moment of moments) {
      moment.time += base;
      // What is known already was known with more of its neighbours.
      if (!this.moments.has(slotOf(moment.time))) this.moments.set(slotOf(moment.time), moment);
    }
    const bytes = moments[0]?.logits.byteLength ?? 0;
    for (const [slot, moment] of this.moments) {
      if (this.moments.size * bytes <= KEPT) break;
      if (Math.abs(moment.time - this.video.currentTime) > 2 * LEAD) this.moments.delete(slot);
    }
  }

  /** The end of a film may lack frames of its own: the last moment stays. @param {number} end */
  fillTo(end) {
    for (let slot = slotOf(end); slot > 0 && !this.moments.has(slot); slot--) {
      const before = this.moments.get(slot - 1);
      if (!before) continue;
      for (let rest = slot; rest <= slotOf(end); rest++) this.moments.set(rest, { ...before, time: rest / RATE });
      break;
    }
  }

  /** What is known of the film, as lines of JSON. */
  timeline() {
    return this.inOrder()
      .map((moment) => {
        const { logits, level, ...line } = this.scaled(moment);
        return JSON.stringify(line);
      })
      .join("\n");
  }
}

/** @param {Float32Array} a @param {Float32Array} b @param {number} share */
function between(a, b, share) {
  const result = new Float32Array(a.length);
  for (let i = 0; i < a.length; i++) result[i] = a[i] + (b[i] - a[i]) * share;
  return result;
}
