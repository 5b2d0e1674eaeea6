// The list of what is looked for in the picture: sounds and texts.

import { announce, clock, color, complain, create, element, fitted, icon } from "./dom.js";
import { Player } from "./audio.js";

/**
 * @typedef {{
 *   id: number, name: string, text?: string, blob?: Blob,
 *   samples?: Float32Array, rate?: number, fileSeconds?: number,
 *   ms: { decode: number, hear: number, find: number },
 *   logits?: Float32Array, confidence?: number, findings?: import("./engine.js").Findings,
 *   row: HTMLElement, button: HTMLButtonElement, play?: HTMLButtonElement, wave?: HTMLCanvasElement, score: HTMLElement,
 * }} Sound
 */

/** Bars of a drawn waveform. */
const BARS = 72;

export class Sounds {
  /**
   * @param {object} on
   * @param {(sound: Sound) => void} on.select
   * @param {(sound: Sound) => void} on.remove
   */
  constructor(on) {
    this.on = on;
    this.list = element("sounds", HTMLElement);
    /** @type {Sound[]} */
    this.all = [];
    /** @type {Sound | null} */
    this.selected = null;
    this.nextId = 1;
    this.player = new Player();
    /** How many seconds the model hears. */
    this.heard = 4;
    /** A mark that moves without sound, while the page shows itself. */
    this.mark = { id: 0, seconds: 0 };
    new ResizeObserver(() => this.drawAll()).observe(this.list);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.drawAll());
  }

  /** Adds a row. @param {Pick<Sound, "name"> & Partial<Sound>} given @returns {Sound} */
  add(given) {
    const id = this.nextId++;
    const score = create("span", { className: "score" });
    const button = create("button", { type: "button", className: "pick", "aria-pressed": "false" });
    const row = create("li", { className: "sound" });
    /** @type {Sound} */
    const sound = { ms: { decode: 0, hear: 0, find: 0 }, ...given, id, row, button, score };
    button.append(create("span", { className: "name" }, sound.name));
    if (sound.text === undefined) {
      const wave = create("canvas", { className: "wave" });
      const play = create("button", { type: "button", className: "round", "aria-label": `Play ${sound.name}` }, icon("play"));
      play.addEventListener("click", () => this.toggle(sound));
      Object.assign(sound, { wave, play });
      button.append(wave);
      row.append(play);
    } else {
      row.append(create("span", { className: "round quiet" }, icon("text")));
      button.append(create("span", { className: "hint" }, "text prompt"));
    }
    button.append(score);
    button.addEventListener("click", () => this.select(sound));
    const remove = create("button", { type: "button", className: "remove", "aria-label": `Remove ${sound.name}` }, icon("close"));
    remove.addEventListener("click", () => this.remove(sound));
    row.append(button, remove);
    this.all.push(sound);
    this.list.append(row);
    return sound;
  }

  /** @param {Sound} sound */
  select(sound) {
    this.selected = sound;
    for (const { row, button } of this.all) {
      row.classList.toggle("selected", row === sound.row);
      button.setAttribute("aria-pressed", String(row === sound.row));
    }
    this.drawAll();
    this.on.select(sound);
  }

  /** @param {Sound} sound */
  remove(sound) {
    if (this.playing === sound) this.player.stop();
    const index = this.all.indexOf(sound);
    if (index < 0) return;
    this.all.splice(index, 1);
    sound.row.remove();
    this.on.remove(sound);
    announce(`${sound.name} removed`);
    if (this.selected !== sound) return;
    this.selected = null;
    const next = this.all[Math.min(index, this.all.length - 1)];
    if (next) this.select(next);
  }

  clear() {
    for (const sound of [...this.all].reverse()) {
      if (this.selected === sound) this.selected = null;
      this.remove(sound);
    }
  }

  /** @param {Sound} sound */
  async toggle(sound) {
    if (this.playing === sound) return this.player.stop();
    if (!sound.samples || !sound.rate) return;
    if (this.selected !== sound) this.select(sound);
    try {
      await this.player.play(sound.samples, sound.rate, () => {
        this.playing = undefined;
        this.showPlaying(sound, false);
      });
    } catch (error) {
      return complain(error);
    }
    /** @type {Sound | undefined} */
    this.playing = sound;
    this.showPlaying(sound, true);
    const follow = () => {
      if (this.playing !== sound) return;
      this.drawWave(sound);
      requestAnimationFrame(follow);
    };
    follow();
  }

  /** @param {Sound} sound @param {boolean} plays */
  showPlaying(sound, plays) {
    sound.play?.replaceChildren(icon(plays ? "stop" : "play"));
    sound.play?.setAttribute("aria-label", `${plays ? "Stop" : "Play"} ${sound.name}`);
    this.drawWave(sound);
  }

  /** Shows what was found. @param {Sound} sound */
  showScore(sound) {
    sound.score.textContent = sound.confidence === undefined ? "…" : sound.confidence.toFixed(2);
    sound.score.title = "Confidence: how well sound and place fit, from −1 to 1";
    this.drawWave(sound);
  }

  drawAll() {
    this.all.forEach((sound) => this.drawWave(sound));
  }

  /** @param {Sound} sound */
  drawWave(sound) {
    const { wave, samples, rate } = sound;
    if (!wave || !samples || !rate) return;
    const { context, width, height, ratio } = fitted(wave);
    const seconds = samples.length / rate;
    const position = this.playing === sound ? this.player.position() : this.mark.id === sound.id ? this.mark.seconds : null;
    const [ink, faint, accent] = [color("--ink-soft"), color("--faint"), color("--accent")];
    const step = width / BARS;
    for (let bar = 0; bar < BARS; bar++) {
      const [start, end] = [bar, bar + 1].map((edge) => Math.floor((edge / BARS) * samples.length));
      let peak = 0;
      for (let i = start; i < end; i += Math.max(1, (end - start) >> 6)) peak = Math.max(peak, Math.abs(samples[i]));
      const time = (bar / BARS) * seconds;
      const past = position !== null && time <= position;
      // What the model does not hear any more is faint.
      context.fillStyle = past ? accent : time < this.heard ? ink : faint;
      const size = Math.max(peak ** 0.7 * height, 2 * ratio);
      context.fillRect(bar * step, (height - size) / 2, Math.max(step - 1.5 * ratio, 1), size);
    }
    wave.title = seconds > this.heard ? `${clock(seconds)}, of which the model hears the first ${this.heard} s` : "";
  }
}
