// The examples that come with the page.

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
