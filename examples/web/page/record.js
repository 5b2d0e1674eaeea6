// The button that records a sound.

import { PLAIN_SOUND, listen, media } from "./audio.js";
import { element } from "./dom.js";

export class RecordButton {
  /**
   * @param {object} on
   * @param {() => number} on.begin called before the recording; returns how many seconds it may have
   * @param {(samples: Float32Array, rate: number) => Promise<void>} on.end takes the recording
   * @param {(error: unknown) => void} on.fail
   */
  constructor(on) {
    this.on = on;
    this.button = element("record", HTMLButtonElement);
    this.label = element("record-label", HTMLElement);
    /** Ends the recording that is going on. @type {(() => void) | null} */
    this.stop = null;
    this.button.addEventListener("click", () => (this.stop ? this.stop() : this.record().catch(on.fail)));
  }

  /** Records until the button is pressed again, or there is as much as the model hears. */
  async record() {
    const seconds = this.on.begin();
    const stream = await media({ audio: PLAIN_SOUND }, "microphone");
    /** @type {Float32Array[]} */
    const pieces = [];
    let length = 0;
    let rate = 0;
    const done = new Promise((resolve) => {
      this.stop = () => resolve(undefined);
    });
    this.show(true, 0);
    try {
      const recorder = await listen(stream, (samples) => {
        // Some are still on their way when it has ended.
        if (!this.stop) return;
        pieces.push(samples);
        length += samples.length;
        const share = rate ? length / rate / seconds : 0;
        this.show(true, share);
        if (share >= 1) this.stop();
      });
      rate = recorder.rate;
      await done;
      await recorder.end();
    } finally {
      stream.getTracks().forEach((track) => track.stop());
      this.stop = null;
      this.show(false, 0);
    }
    if (!length) throw new Error("the recording is empty");
    const samples = new Float32Array(length);
    let at = 0;
    for (const piece of pieces) {
      samples.set(piece, at);
      at += piece.length;
    }
    await this.on.end(samples, rate);
  }

  /** @param {boolean} records @param {number} share of the time that is over */
  show(records, share) {
    this.button.setAttribute("aria-pressed", String(records));
    this.button.style.setProperty("--done", String(share));
    this.label.textContent = records ? "Stop" : "Record";
  }
}
