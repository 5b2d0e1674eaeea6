// Pictures with sounds and texts: every way in, what is found, sliders, saving, errors.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { deflateSync } from "node:zlib";

import {
  MEDIA, calls, choose, drop, ffmpeg, folder, found, grey16, native, open, painted, place, problem, rgb8, saved, settle, shot,
} from "./harness.js";

const its = place();

const confidence = (page) => page.locator("#confidence-text").textContent().then(Number);
const peak = (page) => page.locator("#peak").textContent().then((text) => text.split(/[,·]/).map(Number));

test("it opens with a picture and a sound, and shows one sound after the other", async (t) => {
  const { page, check } = await open(its.browser, its.server.url);
  t.diagnostic(`the first heatmap was there after ${await page.evaluate(() => document.documentElement.dataset.ready)} ms`);
  await found(page, "Elephant");
  assert.ok((await peak(page))[0] < 320, "the elephant is on the left");
  assert.ok((await confidence(page)) > 0.1);
  assert.ok(parseInt(await page.locator("#presence").textContent()) > 50, "the elephant is in the picture");
  assert.ok((await painted(page)) > 0.02);
  await shot(page, "opening");
  await found(page, "Lion");
  await settle(page);
  check();
});

test("chosen files give what the command gives, and can be saved", async (t) => {
  const { page, check } = await open(its.browser, its.server.url);
  await settle(page);
  for (const [image, sound] of [["farm.jpg", "horse.wav"], ["shore.jpg", "duck.wav"]]) {
    await choose(page, [join(MEDIA, image)]);
    await found(page, "", image);
    await choose(page, [join(MEDIA, sound)]);
    await found(page, sound, image);
    const expected = native(join(MEDIA, sound), join(MEDIA, image));
    const json = JSON.parse(readFileSync(await saved(page, "JSON"), "utf8"));
    assert.ok(Math.abs(json.confidence - expected.confidence) < 1e-4, `${json.confidence}, ${expected.confidence}`);
    assert.ok(Math.abs(json.presence - expected.presence) < 1e-3, `${json.presence}, ${expected.presence}`);
    assert.deepEqual([json.peak.x, json.peak.y], [expected.peak.x, expected.peak.y]);
    assert.deepEqual([json.image, json.audio, json.model, json.threshold], [image, sound, "embedded", 0.5]);
    assert.equal(json.boxes.length, expected.boxes.length);
    const [ours, theirs] = [await saved(page, "Heatmap"), expected.outputs.heatmap].map(grey16);
    assert.equal(ours.length, theirs.length);
    const difference = ours.reduce((most, score, i) => Math.max(most, Math.abs(score - theirs[i])), 0) / 65_535;
    t.diagnostic(`${image}: the heatmaps differ by at most ${difference.toExponential(1)}`);
    assert.ok(difference < 1e-4);
    const [drawn, expectedDrawn] = [await saved(page, "Overlay"), expected.outputs.overlay].map(rgb8);
    assert.equal(drawn.length, expectedDrawn.length);
    assert.ok(drawn.every((value, i) => Math.abs(value - expectedDrawn[i]) <= 2), "the overlays are the same");
  }
  check();
});

test("dropped and pasted files", async () => {
  const { page, check } = await open(its.browser, its.server.url);
  await drop(page, [
    { name: "shore.jpg", type: "image/jpeg", file: join(MEDIA, "shore.jpg") },
    { name: "frog.wav", type: "audio/wav", file: join(MEDIA, "frog.wav") },
  ]);
  await found(page, "frog.wav");
  await shot(page, "drop");
  const expected = native(join(MEDIA, "frog.wav"), join(MEDIA, "shore.jpg"));
  assert.deepEqual((await peak(page)).slice(0, 2), [expected.peak.x, expected.peak.y]);
  const base64 = readFileSync(join(MEDIA, "savanna.jpg")).toString("base64");
  await page.evaluate((base64) => {
    const data = new DataTransfer();
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], "pasted.jpg", { type: "image/jpeg" }));
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
  }, base64);
  await found(page, "frog.wav", "pasted.jpg");
  await page.evaluate(() => {
    const data = new DataTransfer();
    data.setData("text/plain", "lion");
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
  });
  await found(page, "lion");
  check();
});

test("several sounds and a word share one encoded picture", async () => {
  const { page, check } = await open(its.browser, its.server.url);
  await settle(page);
  const encoded = await calls(page, "picture");
  await page.getByRole("button", { name: /^Lion/ }).click();
  await found(page, "Lion");
  const lion = await peak(page);
  await page.getByRole("button", { name: /^Elephant/ }).click();
  await found(page, "Elephant");
  const elephant = await peak(page);
  assert.ok(elephant[0] < lion[0], "the elephant is left of the lion");
  await page.getByLabel("A word in place of a sound").fill("lion");
  await page.keyboard.press("Enter");
  await found(page, "lion");
  const word = await peak(page);
  assert.ok(Math.hypot(word[0] - lion[0], word[1] - lion[1]) < 90, `${word} is near ${lion}`);
  const expected = native("--text", "a photo of lion", join(MEDIA, "savanna.jpg"));
  assert.deepEqual(word.slice(0, 2), [expected.peak.x, expected.peak.y]);
  assert.equal(await calls(page, "picture"), encoded);
  await page.getByRole("button", { name: "Remove lion", exact: true }).click();
  assert.equal(await page.locator(".sound").count(), 2);
  check();
});

test("sliders act without the model", async () => {
  const { page, check } = await open(its.browser, its.server.url);
  await settle(page);
  await found(page, "");
  const covered = async () => parseFloat(await page.locator("#area").textContent());
  const before = { find: await calls(page, "find"), area: await covered(), painted: await painted(page) };
  await page.getByLabel("Threshold").fill("0.1");
  await page.waitForFunction((area) => parseFloat(document.getElementById("area").textContent) > area, before.area);
  await page.getByLabel("Opacity").fill("0");
  const without = await painted(page);
  assert.ok(without < before.painted, "only lines are left");
  await page.getByLabel("Mark peak and boxes").uncheck();
  assert.ok((await painted(page)) < without, "the marks are gone");
  assert.equal(await calls(page, "find"), before.find);
  check();
});

/** A black picture of one bit for each pixel. ffmpeg makes none of this size. */
function blackPng(width, height) {
  const chunk = (name, data) => {
    const body = Buffer.concat([Buffer.from(name), data]);
    let crc = 0xffffffff;
    for (const byte of body) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(~crc >>> 0);
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  const rows = deflateSync(Buffer.alloc((1 + width / 8) * height));
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0))]);
}

test("unusable files are refused in the library's words, and the page goes on", async () => {
  const { page, check } = await open(its.browser, its.server.url);
  await settle(page);
  const text = join(folder, "notes.txt");
  writeFileSync(text, "This is not a sound.\n");
  await choose(page, [text]);
  assert.match(await problem(page), /^notes\.txt: unusable sound: expected a sound in WAV.*, found contents of no such format$/);
  // 20,000 pixels on each side, of a single colour, in a small file.
  const large = join(folder, "large.png");
  writeFileSync(large, blackPng(20000, 20000));
  await choose(page, [large]);
  assert.match(await problem(page), /^large\.png: unusable picture: expected .* pixels.*, found 20000 × 20000 pixels$/);
  const cut = join(folder, "cut.jpg");
  writeFileSync(cut, readFileSync(join(MEDIA, "farm.jpg")).subarray(0, 9000));
  await choose(page, [cut]);
  assert.match(await problem(page), /^cut\.jpg: unusable picture: expected a whole, sound jpg file, found a truncated one/);
  await page.getByLabel("A word in place of a sound").fill("walrus");
  await page.getByRole("button", { name: "Look" }).click();
  assert.match(await problem(page), /walrus/);
  await page.getByRole("button", { name: "Record", exact: true }).click();
  assert.equal(await problem(page), "no microphone found: connect one, or use files instead");
  await page.getByRole("radio", { name: "Camera" }).check({ force: true });
  await page.getByRole("button", { name: "Start the camera" }).click();
  assert.equal(await problem(page), "no camera and no microphone found: connect one, or use files instead");
  await page.getByRole("radio", { name: "Picture" }).check({ force: true });
  await choose(page, [join(MEDIA, "lion.wav")]);
  await found(page, "lion.wav");
  await choose(page, [text]);
  await page.locator("#error").waitFor();
  await shot(page, "error");
  check();
});

test("sounds and pictures in many formats", async () => {
  const { page, check } = await open(its.browser, its.server.url);
  await settle(page);
  const expected = native(join(MEDIA, "elephant.wav"), join(MEDIA, "savanna.jpg"));
  const far = (x, y, { peak }) => Math.hypot(x - peak.x, y - peak.y);
  const [box] = expected.boxes;
  const isInside = (x, y) => x >= box.x && x < box.x + box.width && y >= box.y && y < box.y + box.height;
  for (const [name, ...codec] of [["elephant.flac"], ["elephant.mp3"], ["elephant.m4a"], ["elephant.opus", "-c:a", "libopus"]]) {
    const file = join(folder, name);
    ffmpeg("-i", join(MEDIA, "elephant.wav"), ...codec, file);
    await choose(page, [file]);
    await found(page, name);
    const [x, y] = await peak(page);
    // What codecs lose moves the peak, but not out of the elephant.
    assert.ok(far(x, y, expected) < 100 && isInside(x, y), `${name}: ${x}, ${y}`);
  }
  for (const name of ["savanna.webp", "savanna.bmp", "savanna.ppm", "savanna.avif"]) {
    const file = join(folder, name);
    ffmpeg("-i", join(MEDIA, "savanna.jpg"), ...(name.endsWith("avif") ? ["-c:v", "libaom-av1", "-cpu-used", "8", "-still-picture", "1"] : []), file);
    await choose(page, [file]);
    await found(page, "", name);
    await page.locator(".sound", { hasText: "elephant.flac" }).locator(".pick").click();
    await found(page, "elephant.flac", name);
    const [x, y] = await peak(page);
    // The command cannot read AVIF, which the browser decodes.
    const near = name.endsWith("avif") || far(x, y, native(join(folder, "elephant.flac"), file)) < 40;
    assert.ok(near && isInside(x, y), `${name}: ${x}, ${y}`);
  }
  check();
});

test("a sound can be heard and stopped", async () => {
  const { page, check } = await open(its.browser, its.server.url);
  await settle(page);
  await page.getByRole("button", { name: "Play Lion" }).click();
  await page.getByRole("button", { name: "Stop Lion" }).click();
  await page.getByRole("button", { name: "Play Lion" }).waitFor();
  check();
});
