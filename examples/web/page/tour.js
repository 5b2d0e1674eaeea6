// The page shows itself, one sound after the other, until somebody does something.

import { calm } from "./dom.js";

/** How long each sound is shown, in milliseconds. */
const STEP = 3200;

export class Tour {
  /** @param {import("./sounds.js").Sounds} sounds */
  constructor(sounds) {
    this.sounds = sounds;
    this.frame = 0;
    for (const kind of ["pointerdown", "keydown", "dragenter", "paste"]) {
      addEventListener(kind, () => this.end(), { capture: true });
    }
  }

  start() {
    if (calm()) return;
    const { sounds } = this;
    const start = performance.now();
    const step = (/** @type {number} */ now) => {
      if (!sounds.all.length) return this.end();
      const at = Math.max(0, now - start);
      const sound = sounds.all[Math.floor(at / STEP) % sounds.all.length];
      sounds.mark = { id: sound.id, seconds: (at % STEP) / 1000 };
      if (sound !== sounds.selected) sounds.select(sound);
      sounds.drawAll();
      this.frame = requestAnimationFrame(step);
    };
    this.frame = requestAnimationFrame(step);
  }

  end() {
    if (!this.frame) return;
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.sounds.mark = { id: 0, seconds: 0 };
    this.sounds.drawAll();
  }
}
