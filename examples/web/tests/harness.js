// A browser, a server of files, and the page in it. Every test fails on a request to elsewhere or an error on the console.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, extname, join, normalize } from "node:path";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

export const REPOSITORY = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const PAGE = process.env.WEB_DIR ?? join(REPOSITORY, "target/web");
export const MEDIA = join(REPOSITORY, "examples/media");
/** Where screenshots go, for a look at them. */
const SHOTS = process.env.WEB_SHOTS;
/** The command, which the page is compared with. */
export const NATIVE = process.env.SOUNDSIGHT ?? join(REPOSITORY, "target/release/soundsight");

const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
};

/** A folder that is removed in the end. */
export const folder = mkdtempSync(join(tmpdir(), "soundsight-web-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

export function ffmpeg(...args) {
  execFileSync("ffmpeg", ["-v", "error", "-y", ...args]);
}

/** What the command `soundsight localize` finds, with the folder of its pictures. */
export function native(...args) {
  const out = join(folder, "native");
  const model = args.includes("--model") ? [] : ["--model", "embedded"];
  const json = execFileSync(NATIVE, ["localize", ...model, "--json", "--out", out, ...args]);
  return { ...JSON.parse(json.toString()), out };
}

/** The samples of a grey PNG of 16 bits. */
export function grey16(file) {
  const raw = execFileSync("ffmpeg", ["-v", "error", "-i", file, "-f", "rawvideo", "-pix_fmt", "gray16le", "-"], {
    maxBuffer: 1 << 28,
  });
  return new Uint16Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length));
}

/** The bytes of a PNG's pixels. */
export function rgb8(file) {
  return execFileSync("ffmpeg", ["-v", "error", "-i", file, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], {
    maxBuffer: 1 << 28,
  });
}

/** Serves the page. */
export async function serve() {
  const server = createServer((request, response) => {
    let path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    if (path.endsWith("/")) path += "index.html";
    try {
      const body = readFileSync(join(PAGE, path));
      response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream" });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://localhost:${server.address().port}/`,
    close: () => new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); }),
  };
}

/** Starts the browser. */
export function launch(...args) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", ...args],
  });
}

/** Options of a browser whose camera and microphone play files: an elephant that trumpets all the time. */
export function fakeCamera() {
  const [picture, sound] = [join(folder, "camera.mjpeg"), join(folder, "microphone.wav")];
  ffmpeg("-loop", "1", "-i", join(MEDIA, "savanna.jpg"), "-t", "2", "-r", "25", "-vf", "scale=640:480", "-q:v", "3", "-pix_fmt", "yuvj420p", picture);
  ffmpeg("-i", join(MEDIA, "elephant.wav"), "-ar", "48000", "-ac", "2", sound);
  return [
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
    `--use-file-for-fake-video-capture=${picture}`, `--use-file-for-fake-audio-capture=${sound}`,
  ];
}

/** The server and the browser of a file's tests. `flags` gives further options for the browser, once the tests begin. */
export function place(flags = () => []) {
  const place = {};
  before(async () => {
    place.server = await serve();
    place.browser = await launch(...flags());
  });
  after(async () => {
    await place.browser.close();
    await place.server.close();
  });
  return place;
}

/**
 * Opens the page and waits for its first heatmap. `check()` fails if something went wrong that nobody sees.
 * @param {import("playwright-core").Browser} browser
 * @param {string} url
 */
export async function open(browser, url, options = {}, prepare = async () => {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(`error: ${error.stack}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`console: ${message.text()}`);
  });
  context.on("request", (request) => {
    const address = request.url();
    if (!address.startsWith(url) && !/^(blob|data):/.test(address)) problems.push(`a request to ${address}`);
  });
  // Counts what the model is asked for.
  await page.addInitScript(() => {
    window.calls = [];
    const post = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (message, ...rest) {
      window.calls.push(message.method);
      return post.call(this, message, ...rest);
    };
  });
  await prepare(page);
  await page.goto(url);
  await ready(page);
  return { context, page, check: () => assert.deepEqual(problems, []) };
}

export async function ready(page) {
  await page.waitForFunction(() => document.documentElement.dataset.ready);
}

/** How often the model was asked to do `method`. */
export const calls = (page, method) => page.evaluate((name) => window.calls.filter((call) => call === name).length, method);

/** A click on the picture ends the page's tour of its example. */
export async function settle(page) {
  await page.locator("h1").click();
}

/** Chooses files with the button "Choose files". */
export async function choose(page, files, button = page.getByRole("button", { name: "Choose files" })) {
  const [chooser] = await Promise.all([page.waitForEvent("filechooser"), button.click()]);
  await chooser.setFiles(files);
}

/** Drops files on the page. */
export async function drop(page, files) {
  const given = files.map(({ name, type, file }) => ({ name, type, base64: readFileSync(file).toString("base64") }));
  await page.evaluate((given) => {
    const data = new DataTransfer();
    for (const { name, type, base64 } of given) {
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      data.items.add(new File([bytes], name, { type }));
    }
    for (const kind of ["dragenter", "dragover", "drop"]) {
      document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
    }
  }, given);
}

/** The file that a click on a button saves. */
export async function saved(page, name) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name }).click()]);
  const path = join(folder, download.suggestedFilename());
  await download.saveAs(path);
  return path;
}

/** Waits until a sound is selected and its findings are shown, over the picture `image` if given. */
export async function found(page, name, image = "") {
  await page.locator(".sound.selected", { hasText: name }).waitFor();
  await page.getByRole("img", { name: new RegExp(`^The heatmap of ${name}.* over .*${image}$`) }).waitFor();
  await page.waitForFunction(() => document.getElementById("peak").textContent !== "–");
}

/** Waits for the message of an error and dismisses it. */
export async function problem(page) {
  const message = page.locator("#error");
  await message.waitFor();
  const text = await page.locator("#error-text").textContent();
  await page.getByRole("button", { name: "Dismiss the message" }).click();
  await message.waitFor({ state: "hidden" });
  return text;
}

/** How many pixels of the heatmap are painted. */
export const painted = (page) =>
  page.evaluate(() => {
    const canvas = document.getElementById("heat");
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 3; i < data.length; i += 4) count += data[i] > 60 ? 1 : 0;
    return count / (canvas.width * canvas.height);
  });

export async function shot(page, name, options = {}) {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`), ...options });
}
