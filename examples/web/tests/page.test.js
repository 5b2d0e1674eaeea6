// The page itself: accessibility, widths, keyboard, offline, other models.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";

import { MEDIA, NATIVE, choose, folder, found, native, open, place, ready, serve, settle, shot } from "./harness.js";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const its = place();

/** The violations that axe-core finds, in words. */
async function violations(page) {
  // Playwright's evaluation is not subject to the page's policy, which forbids other scripts.
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return found.violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`));
}

test("no violations of accessibility, in light and dark, wide and narrow, in every mode", async () => {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 360]) {
      const { page, check, context } = await open(its.browser, its.server.url, { colorScheme, viewport: { width, height: 780 } });
      await settle(page);
      await found(page, "");
      assert.deepEqual(await violations(page), [], `${colorScheme}, ${width}`);
      await shot(page, `${colorScheme}-${width}`, { fullPage: width === 360 });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `${width}: the page is ${overflow} pixels too wide`);
      await page.getByRole("button", { name: /Small model/ }).click();
      await page.getByText("What it knows").click();
      assert.deepEqual(await violations(page), []);
      await shot(page, `${colorScheme}-${width}-model`);
      await page.getByRole("button", { name: "Close" }).click();
      for (const mode of ["Film", "Camera"]) {
        await page.getByRole("radio", { name: mode }).check({ force: true });
        assert.deepEqual(await violations(page), [], mode);
      }
      check();
      await context.close();
    }
  }
});

test("everything works by keyboard", async () => {
  const { page, check } = await open(its.browser, its.server.url);
  const press = async (key, times = 1) => { for (let i = 0; i < times; i++) await page.keyboard.press(key); };
  const focused = () => page.evaluate(() => {
    const element = document.activeElement;
    if (element === document.body) return "";
    return element.getAttribute("aria-label") ?? (element.textContent.trim() || element.id || element.value);
  });
  /** Tabs until something has the focus. */
  const reach = async (pattern) => {
    for (let i = 0; i < 60; i++) {
      if (pattern.test(await focused())) return;
      await press("Tab");
    }
    assert.fail(`the tab key does not reach ${pattern}`);
  };
  await press("Tab");
  assert.equal(await focused(), "Skip to the picture");
  await reach(/^Lion/);
  await press("Enter");
  await found(page, "Lion");
  await reach(/^Farm$/);
  await press("Enter");
  await found(page, "Dog");
  await reach(/^prompt$/);
  await page.keyboard.type("horse");
  await press("Enter");
  await found(page, "horse");
  await reach(/^threshold$/);
  await press("ArrowRight", 3);
  assert.equal(await page.locator("#threshold-text").textContent(), "0.53");
  await reach(/Small model/);
  await press("Enter");
  await page.locator("#model-dialog[open]").waitFor();
  await press("Escape");
  assert.equal(await page.locator("#model-dialog[open]").count(), 0);
  await reach(/^picture$/);
  await press("ArrowRight");
  await page.getByRole("button", { name: "Choose a film" }).waitFor();
  check();
});

test("the second visit needs no network, and the film plays without it", async () => {
  const { url, close } = await serve();
  const { page, context } = await open(its.browser, url);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(async () => {
    const [name] = await caches.keys();
    return name && (await (await caches.open(name)).keys()).length > 30;
  });
  await close();
  await page.reload();
  await ready(page);
  await found(page, "");
  await page.getByRole("button", { name: "Shore" }).click();
  await found(page, "Duck");
  await page.getByRole("button", { name: "Film", exact: true }).click();
  await page.waitForFunction(() => document.getElementById("video").currentTime > 0.5);
  await context.close();
});

test("a model from files: progress, use, and clear words where it fails", async () => {
  const q8 = join(folder, "q8");
  execFileSync(NATIVE, ["convert", "--model", "embedded", "--weights", "q8", "--out", q8]);
  const files = readdirSync(q8).map((name) => join(q8, name));
  assert.ok(files.some((name) => name.endsWith(".gguf")));
  const { page, check } = await open(its.browser, its.server.url);
  await settle(page);
  const dialog = async () => {
    if (!(await page.locator("#model-dialog[open]").count())) await page.locator("#model-open").click();
  };
  const chooseModel = async (chosen) => {
    await dialog();
    await choose(page, chosen, page.getByRole("button", { name: "Choose the model’s files" }));
  };
  const problem = page.locator("#model-problem");
  await chooseModel(files.filter((name) => !/beats|config/.test(name)));
  await problem.waitFor();
  assert.match(await problem.textContent(), /found no config\.json, no beats\.safetensors or beats\.gguf or beats\.pt/);
  const damaged = join(folder, "damaged");
  mkdirSync(damaged, { recursive: true });
  for (const file of files) copyFileSync(file, join(damaged, file.split("/").at(-1)));
  writeFileSync(join(damaged, "acl.gguf"), readFileSync(join(q8, "acl.gguf")).subarray(0, 5000));
  await chooseModel(readdirSync(damaged).map((name) => join(damaged, name)));
  await page.waitForFunction(() => /acl\.gguf: unusable checkpoint/.test(document.getElementById("model-problem").textContent));
  // Larger than what a browser can hold.
  await dialog();
  await page.evaluate(() => {
    const file = new File(["x"], "beats.gguf");
    Object.defineProperty(file, "size", { value: 5e9 });
    const data = new DataTransfer();
    data.items.add(file);
    const drop = new DragEvent("drop", { bubbles: true, cancelable: true });
    Object.defineProperty(drop, "dataTransfer", { value: { files: [file], types: ["Files"] } });
    document.body.dispatchEvent(drop);
  });
  await page.waitForFunction(() => /5000 MB.*soundsight convert/.test(document.getElementById("model-problem").textContent));
  await chooseModel(files);
  await page.waitForFunction(() => document.getElementById("model-name").textContent.startsWith("your model"));
  assert.equal(await problem.isHidden(), true);
  await shot(page, "model-from-files");
  await page.getByRole("button", { name: "Close" }).click();
  await found(page, "");
  await page.getByRole("button", { name: /^Lion/ }).click();
  await found(page, "Lion");
  const expected = native("--model", q8, join(MEDIA, "lion.wav"), join(MEDIA, "savanna.jpg"));
  const [x, y] = (await page.locator("#peak").textContent()).split(/[,·]/).map(Number);
  assert.deepEqual([x, y], [expected.peak.x, expected.peak.y]);
  await page.locator("#model-open").click();
  await page.getByRole("button", { name: "Back to the small model" }).click();
  await page.waitForFunction(() => document.getElementById("model-name").textContent.startsWith("Small model"));
  check();
});
