// Small helpers for the page's elements.

/**
 * The element with this id.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} "${id}"`);
  return found;
}

/**
 * A new element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Partial<HTMLElementTagNameMap[K]> & Record<string, unknown>} [properties] names with a dash are attributes
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function create(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) made.setAttribute(name, String(value));
    else /** @type {any} */ (made)[name] = value;
  }
  made.append(...children);
  return made;
}

/** An icon of the page's sprite. @param {string} name */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon. @param {string} label @param {string} name @param {() => void} click @param {boolean} [strong] */
export function button(label, name, click, strong = false) {
  const made = create("button", { type: "button", className: strong ? "button strong" : "button" }, icon(name), label);
  made.addEventListener("click", click);
  return made;
}

/** Shows an error until it is dismissed or a later one replaces it. @param {unknown} error */
export function complain(error) {
  const text = error instanceof Error ? error.message : String(error);
  element("error-text", HTMLElement).textContent = text;
  element("error", HTMLElement).hidden = false;
}

export function stopComplaining() {
  element("error", HTMLElement).hidden = true;
}

/** Says something to those who listen to a screen reader. @param {string} text */
export function announce(text) {
  element("status", HTMLElement).textContent = text;
}

/** Whether the visitor asked for less motion. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Hands a file to the visitor. @param {string} name @param {Blob} blob */
export function save(name, blob) {
  const url = URL.createObjectURL(blob);
  create("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** "1:05". @param {number} seconds */
export function clock(seconds) {
  const whole = Math.floor(Math.max(0, seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** The canvas's context, with the canvas as large as it is on the screen. @param {HTMLCanvasElement} canvas */
export function fitted(canvas) {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height, ratio };
}

/** A colour of the style sheet. @param {string} name */
export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
