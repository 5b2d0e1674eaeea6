// Films, decoded by the browser and analysed while they play.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { MEDIA, NATIVE, choose, drop, ffmpeg, folder, open, painted, place, problem, saved, settle, shot } from "./harness.js";

const its = place();

const seek = async (page, time) => {
  await page.getByLabel("Position in the film").fill(String(time));
  await page.waitForFunction((time) => Math.abs(document.getElementById("video").currentTime - time) < 0.3, time);
};

test("a film plays with its heatmap, and gives the moments that the command gives", async (t) => {
  const { page, check } = await open(its.browser, its.server.url);
  await settle(page);
  await page.getByRole("radio", { name: "Film" }).check({ force: true });
  await choose(page, [join(MEDIA, "savanna.mp4")], page.getByRole("button", { name: "Choose a film" }));
  await page.getByRole("button", { name: "Pause the film" }).waitFor();
  // The elephant trumpets from 0.6 to 2.5 s, on the left.
  await page.waitForFunction(() => document.getElementById("video").currentTime > 0.9);
  await page.getByRole("button", { name: "Pause the film" }).click();
  await page.waitForFunction(() => document.getElementById("peak").textContent !== "–");
  assert.ok(parseInt(await page.locator("#peak").textContent()) < 320);
  assert.ok((await painted(page)) > 0.01);
  await shot(page, "film");
  t.diagnostic(await page.locator("#times").textContent());
  // The bull bellows from 6 to 8.2 s, on the right; nothing sounds before it but wind.
  await seek(page, 6.4);
  await page.waitForFunction(() => parseInt(document.getElementById("peak").textContent) > 320);
  await seek(page, 0);
  await page.getByRole("button", { name: "Play the film" }).click();
  await page.waitForFunction(() => document.getElementById("video").ended, null, { timeout: 90_000 });
  const lines = readFileSync(await saved(page, "JSON"), "utf8").trim().split("\n").map((line) => JSON.parse(line));
  const out = join(folder, "film");
  const options = ["--model", "embedded", "--no-film", "--out", out];
  execFileSync(NATIVE, ["localize", join(MEDIA, "savanna.mp4"), ...options], { stdio: "ignore" });
  const expected = readFileSync(join(out, "savanna.timeline.jsonl"), "utf8").trim().split("\n").map((line) => JSON.parse(line));
  // The browser's decoders and sizes differ a little from ffmpeg's.
  let same = 0;
  for (const moment of expected) {
    const ours = lines.find(({ time }) => Math.abs(time - moment.time) < 0.11);
    assert.ok(ours, `there is a moment at ${moment.time} s`);
    if (ours.sounding !== moment.sounding) continue;
    const near = Math.hypot(ours.peak.x - moment.peak.x, ours.peak.y - moment.peak.y) < 60;
    if (!moment.sounding || near) same++;
  }
  t.diagnostic(`${same} of ${expected.length} moments are the command's`);
  assert.ok(same >= 0.8 * expected.length, `${same} of ${expected.length}`);
  check();
});

test("the example film, and back to the picture", async () => {
  const { page, check } = await open(its.browser, its.server.url);
  await settle(page);
  await page.getByRole("button", { name: "Film", exact: true }).click();
  await page.getByRole("button", { name: "Pause the film" }).waitFor();
  await page.getByRole("button", { name: "Turn the sound off" }).click();
  await page.getByRole("button", { name: "Turn the sound on" }).waitFor();
  await page.getByRole("radio", { name: "Picture" }).check({ force: true });
  await page.waitForFunction(() => document.getElementById("peak").textContent !== "–");
  assert.ok(await page.locator("#transport").isHidden());
  check();
});

/** Chooses a film, and waits until it plays and no other one does. */
const chooseFilm = async (page, file, button, seconds) => {
  await choose(page, [file], page.getByRole("button", { name: button }));
  await page.waitForFunction((seconds) => {
    const video = document.getElementById("video");
    return Math.abs(video.duration - seconds) < 0.2 && !video.paused && video.currentTime > 0.2;
  }, seconds);
  await page.getByRole("button", { name: "Pause the film" }).waitFor();
  assert.equal(await page.locator("#video").evaluate((video) => video.muted), false, "nobody turned the sound off");
};

test("another film takes the place of the one that plays", async () => {
  const { page, check } = await open(its.browser, its.server.url);
  await settle(page);
  const [elephant, end] = [join(folder, "elephant.mp4"), join(folder, "end.mp4")];
  ffmpeg("-loop", "1", "-i", join(MEDIA, "savanna.jpg"), "-i", join(MEDIA, "elephant.wav"), "-t", "3", "-vf", "scale=480:-2,hflip", "-pix_fmt", "yuv420p", elephant);
  ffmpeg("-ss", "4", "-i", join(MEDIA, "savanna.mp4"), end);
  await page.getByRole("radio", { name: "Film" }).check({ force: true });
  await chooseFilm(page, join(MEDIA, "savanna.mp4"), "Choose a film", 10.8);
  await chooseFilm(page, elephant, "Choose another film", 3);
  await page.waitForFunction(() => document.getElementById("video").ended);
  // Every moment that is known is one of this film.
  const lines = readFileSync(await saved(page, "JSON"), "utf8").trim().split("\n").map((line) => JSON.parse(line));
  assert.ok(lines.length >= 15 && lines.every(({ time }) => time <= 3.1), `${lines.length} moments`);
  const heard = lines.filter(({ sounding }) => sounding);
  assert.ok(heard.length > 2 && heard.filter(({ peak }) => peak.x > 240).length > heard.length / 2, "the elephant is on the right here");
  // The last of several, without a wait for the others.
  await page.getByRole("button", { name: "Film", exact: true }).click();
  await drop(page, [{ name: "elephant.mp4", type: "video/mp4", file: elephant }]);
  await chooseFilm(page, end, "Choose another film", 6.8);
  assert.equal(await page.locator("#error").isHidden(), true);
  // One that cannot be played leaves nothing of the one before it.
  const text = join(folder, "text.mp4");
  writeFileSync(text, "This is not a film.\n");
  await choose(page, [text], page.getByRole("button", { name: "Choose another film" }));
  assert.equal(await problem(page), "text.mp4: the browser cannot play this film");
  assert.equal(await page.locator("#peak").textContent(), "–");
  await chooseFilm(page, end, "Choose a film", 6.8);
  check();
});

test("a film without sound is shown, and said to have none", async () => {
  const { page, check } = await open(its.browser, its.server.url);
  await settle(page);
  const silent = join(folder, "silent.mp4");
  ffmpeg("-i", join(MEDIA, "savanna.mp4"), "-t", "2", "-an", "-c:v", "copy", silent);
  await choose(page, [silent]);
  assert.match(await problem(page), /^silent\.mp4: unusable sound: expected a sound track, found none/);
  assert.equal(await page.locator("#badge").textContent(), "Without sound there is nothing to look for.");
  await page.getByRole("button", { name: "Play the film" }).click();
  await page.waitForFunction(() => document.getElementById("video").currentTime > 0.3);
  const broken = join(folder, "broken.mp4");
  ffmpeg("-f", "lavfi", "-i", "anullsrc", "-t", "0.1", broken);
  await drop(page, [{ name: "broken.mp4", type: "video/mp4", file: broken }]);
  assert.match(await problem(page), /^broken\.mp4: /);
  check();
});
