// The examples that come with the page.

import { create, element } from "./dom.js";

/** @typedef {{ label: string, picture: string, sounds: [string, string][] }} Example */

/** @type {Example[]} */
export const EXAMPLES = [
  { label: "Savanna", picture: "savanna.jpg", sounds: [["Elephant", "elephant.wav"], ["Lion", "lion.wav"]] },
  { label: "Farm", picture: "farm.jpg", sounds: [["Dog", "dog.wav"], ["Goat", "goat.wav"], ["Horse", "horse.wav"]] },
  { label: "Shore", picture: "shore.jpg", sounds: [["Duck", "duck.wav"], ["Frog", "frog.wav"]] },
];
export const FILM = "savanna.mp4";

/** A file of the folder media. @param {string} name */
export async function medium(name) {
  const response = await fetch(`./media/${name}`);
  if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
  return response.blob();
}

/**
 * Makes the buttons of the examples. Returns what marks the one that is shown.
 * @param {(example: Example) => void} open
 * @param {() => void} openFilm
 */
export function showExamples(open, openFilm) {
  const make = (/** @type {string} */ label, /** @type {string} */ picture, /** @type {() => void} */ click) => {
    const made = create(
      "button",
      { type: "button", className: "example" },
      create("img", { src: `media/${picture}`, alt: "" }),
      create("span", {}, label),
    );
    made.addEventListener("click", click);
    return made;
  };
  const buttons = EXAMPLES.map((example) => make(example.label, example.picture, () => open(example)));
  const film = make("Film", "savanna.jpg", openFilm);
  film.classList.add("film");
  element("examples", HTMLElement).append(...buttons, film);
  const press = (/** @type {Example | null} */ shown) => {
    buttons.forEach((made, i) => made.setAttribute("aria-pressed", String(EXAMPLES[i] === shown)));
  };
  press(null);
  return press;
}
