// The model's card, and loading another model from files.

import { announce, create, element } from "./dom.js";
import { Engine } from "./engine.js";

/** @typedef {import("./engine.js").Card} Card */

/** WebAssembly has addresses for 4 GB, and a model takes about twice its files while it is loaded. */
const MOST_BYTES = 1.7e9;

export class ModelDialog {
  /** @param {(engine: Engine, card: Card) => void} use takes over a loaded model */
  constructor(use) {
    this.use = use;
    this.dialog = element("model-dialog", HTMLDialogElement);
    this.files = element("model-files", HTMLInputElement);
    this.progress = element("model-progress", HTMLElement);
    this.bar = element("model-bar", HTMLProgressElement);
    this.note = element("model-note", HTMLElement);
    this.problem = element("model-problem", HTMLElement);
    this.reset = element("model-reset", HTMLButtonElement);
    this.busy = false;
    element("model-open", HTMLButtonElement).addEventListener("click", () => this.dialog.showModal());
    element("model-close", HTMLButtonElement).addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
    element("model-choose", HTMLButtonElement).addEventListener("click", () => this.files.click());
    this.files.addEventListener("change", () => {
      const chosen = [...(this.files.files ?? [])];
      this.files.value = "";
      if (chosen.length) this.loadFiles(chosen);
    });
    this.reset.addEventListener("click", () => this.loadEmbedded());
  }

  /** The model that comes with the page. */
  async loadEmbedded() {
    await this.load(async (engine) => {
      this.note.textContent = "Loading …";
      this.bar.removeAttribute("value");
      return engine.call("loadEmbedded");
    });
  }

  /** @param {File[]} files */
  async loadFiles(files) {
    if (!this.dialog.open) this.dialog.showModal();
    const total = files.reduce((sum, file) => sum + file.size, 0);
    const megabytes = Math.round(total / 1e6);
    await this.load(async (engine) => {
      if (total > MOST_BYTES) {
        throw new Error(
          `the files have ${megabytes} MB, and a browser can hold models up to ${Math.round(MOST_BYTES / 1e6)} MB; ` +
            "make them smaller: soundsight convert --weights q8",
        );
      }
      const needs = `needs about ${Math.round((2 * total) / 1e6 + 300)} MB of memory while it is loaded`;
      const name = files.length > 1 ? "your model" : files[0].name;
      return engine.call("loadFiles", { name, files }, [], (done) => {
        this.bar.value = done / Math.max(total, 1);
        this.note.textContent =
          done < total ? `${Math.round(done / 1e6)} of ${megabytes} MB read; ${needs}` : "All is read; the weights are laid out …";
      });
    });
  }

  /** @param {(engine: Engine) => Promise<Card>} start */
  async load(start) {
    if (this.busy) {
      this.problem.textContent = "Another model is being loaded; try again when it is there.";
      this.problem.hidden = false;
      return;
    }
    this.busy = true;
    this.problem.hidden = true;
    this.progress.hidden = false;
    this.bar.value = 0;
    const dot = element("model-dot", HTMLElement);
    dot.className = "dot busy";
    const engine = new Engine();
    try {
      const card = await start(engine);
      this.show(card);
      this.use(engine, card);
      announce(`The model ${card.name} is loaded`);
    } catch (error) {
      engine.stop();
      this.problem.textContent = error instanceof Error ? error.message : String(error);
      this.problem.hidden = false;
      if (!this.dialog.open) this.dialog.showModal();
    } finally {
      this.busy = false;
      this.progress.hidden = true;
      dot.className = "dot ready";
    }
  }

  /** @param {Card} card */
  show(card) {
    const embedded = card.name === "embedded";
    const knows = card.classes ? `${card.classes.length} sounds` : "any sound";
    element("model-name", HTMLElement).textContent = `${embedded ? "Small model" : card.name} · ${knows}`;
    element("card-facts", HTMLElement).textContent =
      `Sees pictures at ${card.side} × ${card.side} pixels, hears the first ${card.seconds} seconds of a sound, and takes ` +
      `${card.megabytes} MB of memory.`;
    element("card-embedded", HTMLElement).hidden = !embedded;
    this.reset.hidden = embedded;
    const classes = card.classes ?? [];
    element("classes", HTMLElement).replaceChildren(...classes.map((name) => create("li", {}, name)));
    element("words", HTMLElement).replaceChildren(...classes.map((name) => create("option", { value: name })));
  }
}
