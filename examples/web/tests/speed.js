// How fast the page is: `npm run speed [-- MODEL]`. On a machine that does nothing else.
//
// MODEL is the folder of a model to measure besides the embedded one. The command `soundsight`, on one thread, is measured on
// the same files.

import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { MEDIA, NATIVE, fakeCamera, folder, launch, open, serve, settle } from "./harness.js";

const PICTURE = join(MEDIA, "savanna.jpg");
const SOUND = join(MEDIA, "elephant.wav");
const STAGES = ["picture", "sound", "heatmap"];

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

function print(what, times) {
  const sum = STAGES.reduce((total, stage) => total + times[stage], 0);
  const columns = STAGES.map((stage) => `${stage} ${times[stage].toFixed(1)}`);
  console.log(`${what}: ${columns.join(", ")}, together ${sum.toFixed(1)} ms`);
}

/** The medians of `rounds` localizations after a few that are not counted, with a model of its own. */
async function localizations(page, files, rounds, warmUp) {
  await page.evaluate((ids) => {
    for (const id of ids) document.body.append(Object.assign(document.createElement("input"), { id, type: "file", multiple: true }));
  }, ["speed-model", "speed-media"]);
  await page.setInputFiles("#speed-model", files);
  await page.setInputFiles("#speed-media", [PICTURE, SOUND]);
  return page.evaluate(async ([rounds, warmUp]) => {
    const { Engine } = await import(new URL("engine.js", location.href).href);
    const chosen = (id) => [...document.getElementById(id).files];
    const engine = new Engine();
    const model = chosen("speed-model");
    const [picture, sound] = chosen("speed-media");
    const start = performance.now();
    const card = await (model.length ? engine.call("loadFiles", { name: "model", files: model }) : engine.call("loadEmbedded"));
    const loading = performance.now() - start;
    const times = { picture: [], sound: [], heatmap: [] };
    for (let round = -warmUp; round < rounds; round++) {
      const { seeMs } = await engine.call("picture", { name: picture.name, blob: picture });
      const { hearMs } = await engine.call("sound", { id: 1, name: sound.name, blob: sound });
      const { findMs } = await engine.call("find", { id: 1 });
      if (round < 0) continue;
      times.picture.push(seeMs);
      times.sound.push(hearMs);
      times.heatmap.push(findMs);
    }
    engine.stop();
    return { times, loading, megabytes: card.megabytes };
  }, [rounds, warmUp]);
}

/** Measures the page with one model. */
async function browser(place, files, rounds, warmUp) {
  const { context, page } = await open(place.browser, place.url);
  await settle(page);
  const { times, loading, megabytes } = await localizations(page, files, rounds, warmUp);
  print("browser", Object.fromEntries(STAGES.map((stage) => [stage, median(times[stage])])));
  console.log(`  loaded in ${(loading / 1000).toFixed(2)} s, ${megabytes} MB of memory`);
  await context.close();
}

/** The command on one thread, with and without wide instructions. */
function native(model, rounds) {
  for (const simd of ["", "scalar"]) {
    const args = ["localize", "--json", "--device", "cpu", "--model", model, "--out", join(folder, "speed"), SOUND, PICTURE];
    const env = { ...process.env, RAYON_NUM_THREADS: "1", SOUNDSIGHT_SIMD: simd };
    const runs = Array.from({ length: rounds }, () => JSON.parse(execFileSync(NATIVE, args, { env }).toString()).timings_ms);
    const others = ["load", "decode", "vision", "decoder", "write", "total"];
    const hearing = (run) => Object.entries(run).reduce((sum, [stage, ms]) => sum + (others.includes(stage) ? 0 : ms), 0);
    print(`command, one thread${simd && `, ${simd}`}`, {
      picture: median(runs.map((run) => run.vision)),
      sound: median(runs.map(hearing)),
      heatmap: median(runs.map((run) => run.decoder)),
    });
  }
}

async function opening(place) {
  const seconds = [];
  for (let round = 0; round < 5; round++) {
    const start = performance.now();
    const { context } = await open(place.browser, place.url);
    seconds.push((performance.now() - start) / 1000);
    await context.close();
  }
  console.log(`from opening the page to its first heatmap: ${median(seconds).toFixed(2)} s`);
}

async function camera(place) {
  const { context, page } = await open(place.browser, place.url, { permissions: ["camera", "microphone"] });
  await settle(page);
  await page.getByRole("radio", { name: "Camera" }).check({ force: true });
  await page.getByRole("button", { name: "Start the camera" }).click();
  const rates = [];
  for (let second = 0; second < 10; second++) {
    await page.waitForTimeout(1000);
    rates.push(Number(await page.locator("#live-speed").getAttribute("data-rate")));
  }
  console.log(`camera: ${median(rates.slice(4)).toFixed(1)} frames per second`);
  await context.close();
}

const { positionals: [model] } = parseArgs({ allowPositionals: true });
const server = await serve();
const place = { url: server.url, browser: await launch(...fakeCamera()) };
console.log(`Chromium ${place.browser.version()}, ${cpus().length} × ${cpus()[0].model}`);
await opening(place);
await camera(place);
console.log("embedded model");
await browser(place, [], 20, 8);
native("embedded", 5);
if (model) {
  console.log(model);
  const weights = readdirSync(model).filter((name) => /\.(gguf|safetensors|json)$/.test(name));
  await browser(place, weights.map((name) => join(model, name)), 3, 1);
  native(model, 3);
}
await place.browser.close();
await server.close();
