// Camera and microphone, played by files.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { MEDIA, choose, drop, fakeCamera, found, open, painted, place, settle, shot } from "./harness.js";

const its = place(fakeCamera);

test("camera and microphone, live", async (t) => {
  const { page, check } = await open(its.browser, its.server.url, { permissions: ["camera", "microphone"] });
  await settle(page);
  await page.getByRole("radio", { name: "Camera" }).check({ force: true });
  await page.getByRole("button", { name: "Start the camera" }).click();
  await page.waitForFunction(() => Number(document.getElementById("live-speed").dataset.rate) > 0);
  await page.waitForFunction(() => {
    const [x] = document.getElementById("peak").textContent.split(/[,·]/).map(Number);
    return x < 340 && Number(document.getElementById("confidence-text").textContent) > 0.1;
  });
  assert.ok((await painted(page)) > 0.01);
  await page.waitForTimeout(4000);
  t.diagnostic(`${await page.locator("#live-speed").textContent()}, ${await page.locator("#times").textContent()}`);
  await shot(page, "camera");
  await page.getByRole("button", { name: "Stop the camera" }).click();
  assert.ok(await page.locator("#live").isHidden());
  assert.equal(await page.evaluate(() => document.getElementById("video").srcObject), null);
  check();
});

test("a film takes the place of the camera, and the camera that of a film", async () => {
  const { page, check } = await open(its.browser, its.server.url, { permissions: ["camera", "microphone"] });
  await settle(page);
  const live = () => page.waitForFunction(() => Number(document.getElementById("live-speed").dataset.rate) > 0);
  const film = () => page.waitForFunction(() => {
    const video = document.getElementById("video");
    return !video.srcObject && video.currentTime > 0.5 && !video.paused;
  });
  await page.getByRole("radio", { name: "Camera" }).check({ force: true });
  await page.getByRole("button", { name: "Start the camera" }).click();
  await live();
  await page.getByRole("button", { name: "Use the other camera" }).click();
  await page.waitForFunction(() => document.getElementById("live").hidden);
  await page.waitForFunction(() => !document.getElementById("live").hidden);
  await live();
  assert.ok(await page.locator("#empty").isHidden(), "nothing covers the camera");
  await drop(page, [{ name: "savanna.mp4", type: "video/mp4", file: join(MEDIA, "savanna.mp4") }]);
  await film();
  assert.ok(await page.locator("#empty").isHidden(), "nothing covers the film");
  assert.ok(await page.locator("#live").isHidden());
  await page.getByRole("radio", { name: "Camera" }).check({ force: true });
  await page.getByRole("button", { name: "Start the camera" }).click();
  await live();
  assert.ok(await page.locator("#transport").isHidden());
  await page.getByRole("radio", { name: "Film" }).check({ force: true });
  await choose(page, [join(MEDIA, "savanna.mp4")], page.getByRole("button", { name: "Choose a film" }));
  await film();
  assert.ok(await page.locator("#empty").isHidden());
  check();
});

test("a recorded sound is looked for", async () => {
  const { page, check } = await open(its.browser, its.server.url, { permissions: ["microphone"] });
  await settle(page);
  await page.getByRole("button", { name: "Record", exact: true }).click();
  // It ends by itself once the model has heard enough.
  await found(page, "Recording 1");
  assert.ok(parseInt(await page.locator("#peak").textContent()) < 320, "the elephant is on the left");
  await page.getByRole("button", { name: "Record", exact: true }).click();
  await page.waitForTimeout(700);
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await found(page, "Recording 2");
  check();
});
