// Playing and recording sounds.

/** @type {AudioContext | undefined} */
let shared;

/** The page's audio context; browsers let it sound only after a click or a key. */
export function context() {
  shared ??= new AudioContext();
  return shared;
}

/** Plays one sound at a time. */
export class Player {
  constructor() {
    /** @type {AudioBufferSourceNode | null} */
    this.source = null;
    this.started = 0;
    /** Called when the sound has ended or was stopped. @type {() => void} */
    this.ended = () => {};
  }

  /** @param {Float32Array} samples @param {number} rate @param {() => void} ended */
  async play(samples, rate, ended) {
    this.stop();
    const audio = context();
    await audio.resume();
    // Buffers take rates of 8 to 96 kHz at least; other sounds are played at the nearest rate, faster or slower.
    const shownRate = Math.min(Math.max(rate, 8000), 96_000);
    const buffer = audio.createBuffer(1, samples.length, shownRate);
    buffer.copyToChannel(/** @type {Float32Array<ArrayBuffer>} */ (samples), 0);
    const source = new AudioBufferSourceNode(audio, { buffer, playbackRate: rate / shownRate });
    source.connect(audio.destination);
    source.addEventListener("ended", () => {
      if (this.source === source) this.stop();
    });
    this.ended = ended;
    this.source = source;
    this.started = audio.currentTime;
    source.start();
  }

  stop() {
    const { source } = this;
    this.source = null;
    source?.stop();
    source?.disconnect();
    if (source) this.ended();
  }

  /** Seconds since the sound began; null while nothing plays. */
  position() {
    return this.source ? context().currentTime - this.started : null;
  }
}

/**
 * What keeps the visitor from recording, in words.
 * @param {unknown} error of getUserMedia
 * @param {string} what "microphone", "camera" or both
 */
export function mediaError(error, what) {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotFoundError" || name === "OverconstrainedError") {
    return new Error(`no ${what} found: connect one, or use files instead`);
  }
  if (name === "NotAllowedError" || name === "SecurityError") {
    return new Error(`the ${what} may not be used: allow it for this page in the browser's settings`);
  }
  if (name === "NotReadableError") return new Error(`the ${what} is in use by another program`);
  return new Error(`the ${what} cannot be used: ${error instanceof Error ? error.message : error}`);
}

/** The sound as it is, without what browsers do for telephone calls. */
export const PLAIN_SOUND = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** @param {MediaStreamConstraints} constraints @param {string} what */
export async function media(constraints, what) {
  if (!navigator.mediaDevices) {
    throw new Error(`the ${what} can only be used on pages from https or localhost`);
  }
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    throw mediaError(error, what);
  }
}

/**
 * Passes the samples of a stream's sound to `take`, mono, as they come. Returns how to end it.
 * @param {MediaStream} stream
 * @param {(samples: Float32Array) => void} take
 */
export async function listen(stream, take) {
  const audio = new AudioContext();
  await audio.audioWorklet.addModule(new URL("recorder.js", import.meta.url).href);
  await audio.resume();
  const source = audio.createMediaStreamSource(new MediaStream(stream.getAudioTracks()));
  const recorder = new AudioWorkletNode(audio, "recorder", { numberOfOutputs: 0 });
  recorder.port.addEventListener("message", ({ data }) => take(data));
  recorder.port.start();
  source.connect(recorder);
  return {
    rate: audio.sampleRate,
    async end() {
      source.disconnect();
      for (const track of stream.getTracks()) track.stop();
      await audio.close();
    },
  };
}

/**
 * The mean of a buffer's channels.
 * @param {AudioBuffer} buffer
 */
export function mono(buffer) {
  const samples = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const data = buffer.getChannelData(channel);
    for (let i = 0; i < samples.length; i++) samples[i] += data[i] / buffer.numberOfChannels;
  }
  return samples;
}

/**
 * What the browser decodes of a file's sound, at `rate` samples a second; null if it cannot.
 * @param {Blob} blob @param {number} rate
 */
export async function decoded(blob, rate) {
  try {
    const bytes = await blob.arrayBuffer();
    return mono(await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes));
  } catch {
    return null;
  }
}
