// How files come to the page, by choice, drop and paste, and what they are.

import { element } from "./dom.js";

const chooser = element("chooser", HTMLInputElement);

/** Lets the visitor choose files. */
export const choose = () => chooser.click();

/** What a file is; whatever else it may be is tried as a sound. @param {File} file */
export function kindOf({ name, type }) {
  if (/\.(gguf|safetensors|pt|pth|bin)$/i.test(name)) return "weights";
  if (/^image\//.test(type) || /\.(p[bgnp]m|tga|qoi)$/i.test(name)) return "picture";
  if (/^video\//.test(type) || /\.(mkv|mov|mp4|webm)$/i.test(name)) return "film";
  return "sound";
}

/** Whether a file may belong to a model. @param {File} file */
export const isOfModel = (file) => kindOf(file) === "weights" || /\.json$|^(vocab|merges)\.\w+$/i.test(file.name);

/**
 * Passes on whatever is chosen, dropped or pasted from now on.
 * @param {(files: File[]) => void} take
 * @param {(text: string) => void} takeText takes a pasted text
 */
export function receive(take, takeText) {
  chooser.addEventListener("change", () => {
    const files = [...(chooser.files ?? [])];
    chooser.value = "";
    take(files);
  });
  const dropping = element("dropping", HTMLElement);
  for (const kind of ["dragenter", "dragover"]) {
    addEventListener(kind, (event) => {
      if (!(event instanceof DragEvent) || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      dropping.hidden = false;
    });
  }
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) dropping.hidden = true;
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    dropping.hidden = true;
    take([...(event.dataTransfer?.files ?? [])]);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      return take(files);
    }
    const text = event.clipboardData?.getData("text/plain").trim();
    if (text && text.length < 200 && !(document.activeElement instanceof HTMLInputElement)) takeText(text);
  });
}
