// An audio worklet that passes on what a microphone hears: mono, in pieces of a twentieth of a second.

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(Math.round(sampleRate / 20));
    this.filled = 0;
  }

  /** @param {Float32Array[][]} inputs */
  process([channels]) {
    const length = channels[0]?.length ?? 0;
    for (let i = 0; i < length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.piece[this.filled++] = sum / channels.length;
      if (this.filled === this.piece.length) {
        this.port.postMessage(this.piece);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
