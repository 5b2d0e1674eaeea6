// The page: what visitors do, and what they see of it.

import { decoded } from "./audio.js";
import { Camera } from "./camera.js";
import { announce, button, complain, element, save, stopComplaining } from "./dom.js";
import { EngineStopped } from "./engine.js";
import { EXAMPLES, FILM, medium, showExamples } from "./examples.js";
import { choose, isOfModel, kindOf, receive } from "./files.js";
import { Film } from "./film.js";
import { ModelDialog } from "./model-dialog.js";
import { RecordButton } from "./record.js";
import { showBadge, showResult, showTimes } from "./results.js";
import { Sounds } from "./sounds.js";
import { Stage } from "./stage.js";
import { Tour } from "./tour.js";

/** @typedef {import("./engine.js").Engine} Engine */
/** @typedef {import("./engine.js").Card} Card */
/** @typedef {import("./engine.js").Findings} Findings */
/** @typedef {import("./sounds.js").Sound} Sound */

const stage = new Stage(() => refreshFindings.now());
const sounds = new Sounds({ select: showSound, remove: ({ id }) => void engine?.call("forget", { id }).catch(() => {}) });
const film = new Film(theEngine, stage, reportMoment, fail);
const camera = new Camera(theEngine, stage, reportMoment);
const models = new ModelDialog(useModel);
const tour = new Tour(sounds);

/** @type {Engine | null} */
let engine = null;
/** @type {Card | null} */
let card = null;
/** The picture that the sounds are looked for in. @type {{ name: string, blob: Blob, decodeMs: number, seeMs: number } | null} */
let picture = null;
/** @type {"picture" | "film" | "camera"} */
let mode = "picture";
/** The present moment of a film or camera. @type {Findings | null} */
let moment = null;

function theEngine() {
  if (!engine) throw new Error("the model is not loaded yet");
  return engine;
}

/** Shows an error; a worker that has stopped is replaced. @param {unknown} error */
function fail(error) {
  if (!(error instanceof EngineStopped)) return complain(error);
  // Calls that a new model has overtaken.
  if (error.message === "the model was replaced") return;
  complain(new Error(`The model stopped and was started again: ${error.message}`));
  models.loadEmbedded();
}

/** Takes over a model: everything on the page is looked at again. @param {Engine} loaded @param {Card} facts */
async function useModel(loaded, facts) {
  const first = !engine;
  engine?.stop();
  engine = loaded;
  card = facts;
  stage.colors = facts.colors;
  stage.offset = facts.offset;
  stage.side = facts.side;
  sounds.heard = facts.seconds;
  if (first) return;
  try {
    if (camera.active) return void startCamera();
    if (mode === "film") return film.analyseAgain();
    await lookAgain();
  } catch (error) {
    fail(error);
  }
}

/** Encodes the picture and all sounds with the present model. */
async function lookAgain() {
  if (picture) await encodePicture(picture.name, picture.blob);
  for (const sound of [...sounds.all]) await hear(sound).catch(fail);
  await findAll();
  if (sounds.selected) showSound(sounds.selected);
}

// Pictures and sounds.

/** @param {string} name @param {Blob} blob */
async function encodePicture(name, blob) {
  const { bitmap, width, height, decodeMs, seeMs } = await theEngine().call("picture", { name, blob });
  picture = { name, blob, decodeMs, seeMs };
  stage.setPicture(bitmap, width, height);
}

/** Shows another picture; the sounds stay. @param {string} name @param {Blob} blob */
async function setPicture(name, blob) {
  setMode("picture");
  await encodePicture(name, blob);
  pressExample(null);
  await findAll();
  if (sounds.selected) showSound(sounds.selected);
  announce(`${name} is shown`);
}

/** Lets the model hear a sound or read a text. @param {Sound} sound */
async function hear(sound) {
  const { id, name, blob } = sound;
  const engine = theEngine();
  if (sound.text !== undefined) {
    sound.ms.hear = (await engine.call("text", { id, text: sound.text })).hearMs;
    return;
  }
  let result;
  if (blob) {
    result = await engine.call("sound", { id, name, blob }).catch(async (error) => {
      // The browser knows formats that the library does not, such as Opus.
      const samples = error instanceof EngineStopped ? null : await decoded(blob, 48_000);
      if (!samples) throw error;
      return engine.call("samples", { id, samples, rate: 48_000 }, [samples.buffer]);
    });
  } else {
    result = await engine.call("samples", { id, samples: sound.samples, rate: sound.rate });
  }
  sound.samples = result.samples;
  sound.rate = result.rate;
  sound.fileSeconds = result.fileSeconds;
  Object.assign(sound.ms, { hear: result.hearMs, decode: result.decodeMs });
  sounds.drawWave(sound);
}

/** @param {Sound} sound */
async function find(sound) {
  sound.findings = undefined;
  const { logits, confidence, findMs } = await theEngine().call("find", { id: sound.id });
  Object.assign(sound, { logits, confidence });
  sound.ms.find = findMs;
  sounds.showScore(sound);
}

async function findAll() {
  if (!picture) return;
  for (const sound of [...sounds.all]) await find(sound);
}

/** Adds a sound or text, and shows where it comes from. @param {Pick<Sound, "name"> & Partial<Sound>} given */
async function addSound(given) {
  setMode("picture");
  const sound = sounds.add(given);
  sounds.showScore(sound);
  try {
    await hear(sound);
    if (picture) await find(sound);
    sounds.select(sound);
  } catch (error) {
    sounds.remove(sound);
    throw error;
  }
}

/** @param {Sound} sound */
function showSound(sound) {
  if (mode !== "picture" || !sound.logits) return;
  stage.turnInto(sound.logits);
  stage.heat.setAttribute("aria-label", `The heatmap of ${sound.name} over ${picture?.name}`);
  showResult(sound.findings ?? null, sound.confidence, true);
  showBadge(sound.name);
  refreshFindings.now();
}

/** Peak, boxes and area for the present threshold; the last call counts. */
const refreshFindings = {
  waiting: false,
  again: false,
  async now() {
    if (this.waiting) {
      this.again = true;
      return;
    }
    this.waiting = true;
    try {
      do {
        this.again = false;
        const sound = sounds.selected;
        if (mode !== "picture" || !sound?.logits) break;
        /** @type {Findings} */
        const findings = await theEngine().call("json", { id: sound.id, threshold: stage.threshold });
        sound.findings = findings;
        if (sound !== sounds.selected || mode !== "picture") continue;
        stage.setFindings(findings);
        showResult(findings, findings.confidence, true);
        const query = sound.text === undefined ? "sound" : "text";
        showTimes({ picture: picture?.seeMs, [query]: sound.ms.hear, heatmap: sound.ms.find });
        const { x, y } = findings.peak;
        announce(`${sound.name}: at ${x}, ${y}, confidence ${findings.confidence.toFixed(2)}`);
      } while (this.again);
    } catch (error) {
      fail(error);
    } finally {
      this.waiting = false;
    }
  },
};

/** @param {import("./engine.js").Moment | null} found @param {string} note */
function reportMoment(found, note) {
  moment = found;
  stage.heat.setAttribute("aria-label", `The heatmap over the ${mode}`);
  if (found && !note) note = found.sounding ? "" : "Nothing in the picture sounds";
  showBadge(note);
  showResult(found, found?.confidence, false);
  showTimes({ "every moment": mode === "film" ? film.msPerMoment : camera.ms });
}

// Picture, film or camera.

/** Takes away the heatmap and what was found. */
function showNothing() {
  stage.clear();
  moment = null;
  showResult(null, undefined, false);
  showBadge("");
  showTimes({});
}

/** @param {typeof mode} next */
function setMode(next) {
  tour.end();
  if (next === mode) return;
  if (mode === "film") film.close();
  if (mode === "camera") camera.stop();
  mode = next;
  sounds.player.stop();
  showNothing();
  pressExample(null);
  for (const radio of document.querySelectorAll("input[name=mode]")) {
    if (radio instanceof HTMLInputElement) radio.checked = radio.value === next;
  }
  element("sound-panel", HTMLElement).hidden = next !== "picture";
  const empty = element("empty", HTMLElement);
  empty.hidden = next === "picture";
  if (next === "film") {
    element("empty-text", HTMLElement).textContent = "Drop a film here. It is analysed while it plays, on this device.";
    element("empty-buttons", HTMLElement).replaceChildren(
      button("Choose a film", "file", choose, true),
      button("Show the example", "play", () => openFilm(FILM, medium(FILM))),
    );
  } else if (next === "camera") {
    element("empty-text", HTMLElement).textContent =
      "The camera looks and the microphone listens. Nothing is recorded, and nothing leaves this device.";
    element("empty-buttons", HTMLElement).replaceChildren(button("Start the camera", "image", startCamera, true));
  } else if (picture) {
    const { name, blob } = picture;
    encodePicture(name, blob).then(findAll).then(() => sounds.selected && showSound(sounds.selected)).catch(fail);
  }
}

/** Shows a film in place of whatever is shown. @param {string} name @param {Blob | Promise<Blob>} blob */
async function openFilm(name, blob) {
  setMode("film");
  showNothing();
  const empty = element("empty", HTMLElement);
  empty.hidden = true;
  try {
    await film.open(name, blob);
  } catch (error) {
    if (mode === "film" && !film.video.videoWidth) empty.hidden = false;
    fail(error);
  }
}

async function startCamera() {
  const empty = element("empty", HTMLElement);
  empty.hidden = true;
  await camera.start().catch(fail);
  // Unless it was started again, or something else is shown by now.
  if (camera.active || mode !== "camera") return;
  empty.hidden = false;
  showNothing();
}
element("live-turn", HTMLButtonElement).addEventListener("click", () => {
  camera.turn();
  startCamera();
});

// Files.

/** Sorts files by what they are. @param {File[]} files */
async function take(files) {
  stopComplaining();
  if (files.some((file) => kindOf(file) === "weights")) return models.loadFiles(files.filter(isOfModel));
  for (const file of files) {
    try {
      const kind = kindOf(file);
      if (kind === "picture") await setPicture(file.name, file);
      else if (kind === "film") await openFilm(file.name, file);
      else await addSound({ name: file.name, blob: file });
    } catch (error) {
      fail(error);
    }
  }
}

for (const id of ["add-file", "film-choose"]) element(id, HTMLButtonElement).addEventListener("click", choose);

receive(take, (text) => addSound({ name: text, text }).catch(fail));

new RecordButton({
  begin() {
    stopComplaining();
    tour.end();
    return card?.seconds ?? 4;
  },
  end(samples, rate) {
    const number = sounds.all.filter(({ name }) => name.startsWith("Recording")).length + 1;
    return addSound({ name: `Recording ${number}`, samples, rate });
  },
  fail,
});

// Text.

element("prompt-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  stopComplaining();
  const input = element("prompt", HTMLInputElement);
  const text = input.value.trim();
  if (!text) return;
  addSound({ name: text, text }).then(() => (input.value = ""), fail);
});

// Saving.

/** @param {string} kind */
const savedName = (kind) => {
  const name = (mode === "picture" ? picture?.name : mode === "film" ? film.name : "camera") ?? "picture";
  return `${name.replace(/\.[^.]*$/, "")}.${kind}`;
};

/** @param {"overlay" | "heatmap"} kind */
async function savePng(kind) {
  const sound = sounds.selected;
  if (!sound) return;
  const { threshold, opacity } = stage;
  const png = await theEngine().call(kind, { id: sound.id, threshold, opacity });
  save(savedName(`${kind}.png`), new Blob([png], { type: "image/png" }));
}
element("save-overlay", HTMLButtonElement).addEventListener("click", () => savePng("overlay").catch(fail));
element("save-heatmap", HTMLButtonElement).addEventListener("click", () => savePng("heatmap").catch(fail));
element("save-json", HTMLButtonElement).addEventListener("click", () => {
  if (mode === "film") return save(savedName("timeline.jsonl"), new Blob([film.timeline()], { type: "application/jsonl" }));
  const sound = sounds.selected;
  const what = mode === "picture" ? { image: picture?.name, [sound?.text === undefined ? "audio" : "text"]: sound?.name } : {};
  const { logits: _, ...found } = /** @type {any} */ (mode === "picture" ? sound?.findings : moment) ?? {};
  const json = JSON.stringify({ model: card?.name, ...what, ...found }, null, 2);
  save(savedName("json"), new Blob([json], { type: "application/json" }));
});

for (const radio of document.querySelectorAll("input[name=mode]")) {
  radio.addEventListener("change", () => {
    stopComplaining();
    if (radio instanceof HTMLInputElement) setMode(/** @type {typeof mode} */ (radio.value));
  });
}
element("error-close", HTMLButtonElement).addEventListener("click", stopComplaining);

// Examples.

const pressExample = showExamples(
  (example) => {
    setMode("picture");
    showExample(example).catch(fail);
  },
  () => openFilm(FILM, medium(FILM)),
);

/** @param {import("./examples.js").Example} example */
async function showExample(example) {
  stopComplaining();
  const [blob, ...blobs] = await Promise.all([example.picture, ...example.sounds.map(([, file]) => file)].map(medium));
  sounds.clear();
  await encodePicture(example.picture, blob);
  pressExample(example);
  const added = example.sounds.map(([name], i) => sounds.add({ name, blob: blobs[i] }));
  for (const sound of added) {
    await hear(sound);
    await find(sound);
    if (sound !== added[0]) continue;
    sounds.select(sound);
    // How long it took until the first heatmap was there.
    document.documentElement.dataset.ready ??= performance.now().toFixed(0);
  }
}

// The first picture is there at once, the heatmap as soon as the model is.
const opening = medium(EXAMPLES[0].picture).then(async (blob) => {
  const bitmap = await createImageBitmap(blob);
  if (!engine) stage.setPicture(bitmap, bitmap.width, bitmap.height);
});
await Promise.all([opening, models.loadEmbedded()]).catch(fail);
if (engine) {
  await showExample(EXAMPLES[0]).then(() => tour.start(), fail);
}
if (card && "serviceWorker" in navigator) {
  // After the first heatmap, which needs the network more.
  navigator.serviceWorker.register("service-worker.js").catch(() => {});
}
