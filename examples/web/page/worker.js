// The worker in which the model runs, so that the page never waits for it. It holds one model for as long as it lives.

/** @typedef {typeof import("soundsight")} Library */
/** @typedef {import("soundsight").Moment} LibraryMoment */
/** @typedef {import("./engine.js").Moment} Moment */

/** The files of the model that comes with the page. */
const MODEL_FILES = [
  "config.json", "tokenizer.json", "presence.json", "beats.safetensors", "clipseg.safetensors", "acl.safetensors",
];
/** The library, without the ends of its two files' names; the build writes it. */
const LIBRARY = "./library/soundsight";
/** More of a sound is not decoded: the models hear 4 and 10 seconds. */
const SOUND_SECONDS = 60;
/** The longest side of the picture that is drawn on the screen. */
const SHOWN_SIDE = 1600;

/** @type {Library} */
let library;
/** @type {import("soundsight").Model} */
let model;
/** @type {WebAssembly.Memory} */
let memory;
/** @type {{ picture: import("soundsight").Picture, scene: import("soundsight").Scene } | null} */
let shown = null;
/** @type {Map<number, { query: import("soundsight").Query, found?: import("soundsight").Found }>} */
const queries = new Map();
/** @type {import("soundsight").Watch | null} */
let watch = null;
const canvas = new OffscreenCanvas(1, 1);
const context = /** @type {OffscreenCanvasRenderingContext2D} */ (
  canvas.getContext("2d", { willReadFrequently: true, alpha: false })
);

/**
 * What `work` returns, and how many milliseconds it took.
 * @template T
 * @param {() => T} work
 * @returns {[T, number]}
 */
function timed(work) {
  const start = performance.now();
  const result = work();
  return [result, performance.now() - start];
}

async function start() {
  const module = fetch(`${LIBRARY}_bg.wasm`);
  library = await import(`${LIBRARY}.js`);
  ({ memory } = await library.default({ module_or_path: module }));
}

/** @param {Blob} blob */
async function bytesOf(blob) {
  return new Uint8Array(await blob.arrayBuffer());
}

/** The pixels of a bitmap. @param {ImageBitmap} bitmap */
function pixels(bitmap) {
  const { width, height } = bitmap;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height).data;
}

/**
 * Decodes a picture with the library or, if it does not know the format, with the browser.
 * @param {string} name
 * @param {Blob} blob
 */
async function decodePicture(name, blob) {
  try {
    return library.Picture.fromFile(name, await bytesOf(blob));
  } catch (error) {
    const bitmap = await createImageBitmap(blob).catch(() => null);
    // A picture beyond the library's limits is one beyond the browser's too; its own message says more.
    if (!bitmap || bitmap.width > 32768 || bitmap.height > 32768 || bitmap.width * bitmap.height > 2 ** 26) {
      throw error;
    }
    const { width, height } = bitmap;
    return library.Picture.fromRgba(width, height, new Uint8Array(pixels(bitmap).buffer));
  }
}

/**
 * The picture in the size that is drawn on the screen.
 * @param {import("soundsight").Picture} picture
 * @param {Blob} blob
 */
async function bitmapOf(picture, blob) {
  const scale = Math.min(1, SHOWN_SIDE / Math.max(picture.width, picture.height));
  const width = Math.max(1, Math.round(picture.width * scale));
  const height = Math.max(1, Math.round(picture.height * scale));
  const size = { resizeWidth: width, resizeHeight: height, resizeQuality: /** @type {const} */ ("high") };
  try {
    return await createImageBitmap(blob, size);
  } catch {
    const data = new Uint8ClampedArray(picture.rgba(width, height));
    return createImageBitmap(new ImageData(data, width, height));
  }
}

/** @param {number} id */
function queryOf(id) {
  const query = queries.get(id);
  if (!query) throw new Error("this sound is no longer there");
  return query;
}

function shownPicture() {
  if (!shown) throw new Error("there is no picture yet");
  return shown;
}

/** @param {number} id */
function foundOf(id) {
  const { found } = queryOf(id);
  if (!found) throw new Error("there is no heatmap yet");
  return found;
}

/** @param {number} id @param {import("soundsight").Query} query */
function keep(id, query) {
  forget(id);
  queries.set(id, { query });
}

/** @param {number} id */
function forget(id) {
  const old = queries.get(id);
  old?.found?.free();
  old?.query.free();
  queries.delete(id);
}

/**
 * Moments in the form that can be sent to the page.
 * @param {LibraryMoment[]} moments
 * @param {number} threshold
 * @returns {Moment[]}
 */
function plain(moments, threshold) {
  return moments.map((moment) => {
    const result = { ...JSON.parse(moment.json(threshold)), level: moment.level, logits: moment.logits };
    moment.free();
    return result;
  });
}

const methods = {
  /** Loads the library and the model that comes with the page, at the same time. */
  async loadEmbedded() {
    const files = Promise.all(
      MODEL_FILES.map(async (name) => {
        const response = await fetch(`./model/${name}`);
        if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
        return { name, bytes: new Uint8Array(await response.arrayBuffer()) };
      }),
    );
    const [contents] = await Promise.all([files, start()]);
    const collected = new library.Files();
    for (const { name, bytes } of contents) {
      collected.announce(name, bytes.length);
      collected.append(name, bytes);
    }
    model = collected.load("embedded");
    return card();
  },

  /**
   * Loads a model from files that the visitor chose.
   * @param {{ name: string, files: File[] }} params
   * @param {(done: number) => void} progress
   */
  async loadFiles({ name, files }, progress) {
    await start();
    const collected = new library.Files();
    let done = 0;
    for (const file of files) {
      collected.announce(file.name, file.size);
      const reader = file.stream().getReader();
      for (;;) {
        const { value, done: end } = await reader.read();
        if (end) break;
        collected.append(file.name, value);
        done += value.length;
        progress(done);
      }
    }
    model = collected.load(name);
    return card();
  },

  /** @param {{ name: string, blob: Blob }} params */
  async picture({ name, blob }) {
    const decoding = performance.now();
    const picture = await decodePicture(name, blob);
    const decodeMs = performance.now() - decoding;
    const [scene, seeMs] = timed(() => model.see(picture));
    const { width, height } = picture;
    const bitmap = await bitmapOf(picture, blob);
    shown?.picture.free();
    shown?.scene.free();
    shown = { picture, scene };
    for (const query of queries.values()) {
      query.found?.free();
      query.found = undefined;
    }
    return { width, height, bitmap, decodeMs, seeMs };
  },

  /**
   * A sound from a file; `samples` of the browser's own decoder if the library does not know the format.
   * @param {{ id: number, name: string, blob: Blob }} params
   */
  async sound({ id, name, blob }) {
    const bytes = await bytesOf(blob);
    const [sound, decodeMs] = timed(() => library.Sound.fromFile(name, bytes, SOUND_SECONDS));
    return { ...hear(id, sound), decodeMs };
  },

  /** @param {{ id: number, samples: Float32Array, rate: number }} params */
  samples({ id, samples, rate }) {
    return { ...hear(id, library.Sound.fromSamples(samples, rate)), decodeMs: 0 };
  },

  /** @param {{ id: number, text: string }} params */
  text({ id, text }) {
    const { prompt } = JSON.parse(model.card());
    const [before] = prompt.split("{}");
    const whole = text.toLowerCase().startsWith(before.trim().toLowerCase());
    const [query, hearMs] = timed(() => model.read(whole ? text : prompt.replace("{}", text)));
    keep(id, query);
    return { hearMs };
  },

  /** @param {{ id: number }} params */
  find({ id }) {
    const query = queryOf(id);
    const { scene } = shownPicture();
    const [found, findMs] = timed(() => model.find(query.query, scene));
    query.found?.free();
    query.found = found;
    return { logits: found.logits, confidence: found.confidence, findMs };
  },

  /** @param {{ id: number, threshold: number }} params */
  json({ id, threshold }) {
    return JSON.parse(foundOf(id).json(threshold));
  },

  /** @param {{ id: number, threshold: number, opacity: number }} params */
  overlay({ id, threshold, opacity }) {
    return foundOf(id).overlay(shownPicture().picture, threshold, opacity);
  },

  /** @param {{ id: number }} params */
  heatmap({ id }) {
    return foundOf(id).heatmapPng();
  },

  /** @param {{ id: number }} params */
  scores({ id }) {
    return foundOf(id).scores;
  },

  /** @param {{ id: number }} params */
  forget({ id }) {
    forget(id);
  },

  /**
   * The whole sound of a film.
   * @param {{ name: string, blob: Blob }} params
   */
  async filmSound({ name, blob }) {
    const sound = library.Sound.fromFile(name, await bytesOf(blob), 3600);
    const result = { samples: sound.samples, rate: sound.rate };
    sound.free();
    return result;
  },

  /** @param {{ sampleRate: number, rate: number, hop: number, smoothing: number }} params */
  watch({ sampleRate, rate, hop, smoothing }) {
    watch?.free();
    watch = new library.Watch(model, sampleRate, rate, hop, smoothing);
    return watch.latency;
  },

  /** @param {{ samples: Float32Array, threshold: number }} params */
  watchSound({ samples, threshold }) {
    return watch ? plain(watch.sound(samples), threshold) : [];
  },

  /** @param {{ time: number, frame: ImageData, threshold: number }} params */
  watchFrame({ time, frame, threshold }) {
    if (!watch) return { moments: [], ms: 0 };
    const current = watch;
    const { width, height, data } = frame;
    const [moments, ms] = timed(() => current.frame(time, width, height, new Uint8Array(data.buffer)));
    return { moments: plain(moments, threshold), ms };
  },

  /** @param {{ threshold: number }} params */
  watchEnd({ threshold }) {
    const moments = watch ? plain(watch.finish(), threshold) : [];
    watch?.free();
    watch = null;
    return moments;
  },
};

function card() {
  const megabytes = Math.round(memory.buffer.byteLength / 1e6);
  return { ...JSON.parse(model.card()), offset: model.offset(), colors: library.colors(), megabytes };
}

/** @param {number} id @param {import("soundsight").Sound} sound */
function hear(id, sound) {
  const [query, hearMs] = timed(() => model.hear(sound));
  keep(id, query);
  const result = { samples: sound.samples, rate: sound.rate, fileSeconds: sound.fileSeconds, hearMs };
  sound.free();
  return result;
}

/** What can be handed over to the page instead of being copied. @param {any} value @returns {Transferable[]} */
function transferable(value) {
  if (value instanceof ImageBitmap) return [value];
  if (ArrayBuffer.isView(value)) return [/** @type {ArrayBuffer} */ (value.buffer)];
  if (Array.isArray(value)) return value.flatMap(transferable);
  if (value && typeof value === "object") return Object.values(value).flatMap(transferable);
  return [];
}

// One call after the other, in the order in which they came: some of them wait for decoders.
/** @type {Promise<void>} */
let last = Promise.resolve();

self.addEventListener("message", ({ data: { id, method, params } }) => {
  last = last.then(async () => {
    try {
      const progress = (/** @type {number} */ done) => self.postMessage({ id, progress: done });
      const call = /** @type {Record<string, (params: any, progress: (done: number) => void) => any>} */ (methods)[method];
      const result = await call(params, progress);
      self.postMessage({ id, result }, { transfer: transferable(result) });
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      // After a panic or a trap the library's memory is not to be trusted.
      const fatal = error instanceof WebAssembly.RuntimeError || typeof error === "string";
      self.postMessage({ id, error: text, fatal });
    }
  });
});
