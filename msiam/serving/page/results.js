// Records as cards: a grid of pictures, or a list of articles; and how the arrow keys go among
// them. Every node is built by hand, so that nothing of a record is ever read as HTML.

import { picture } from "./server.js";

const LONG = 200; // letters; a text beyond is no heading
const list = document.getElementById("results");

export function node(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children.filter((child) => child !== null));
  return made;
}

// What heads a record, and what else it says.
function wordsOf(gallery, { id, record }) {
  const own = gallery.texts.filter((name) => typeof record[name] === "string");
  const any = Object.keys(record).filter((name) => !gallery.pictures.includes(name));
  const names = own.length ? own : any.filter((name) => typeof record[name] === "string").slice(0, 1);
  const texts = names.map((name) => record[name].trim()).filter(Boolean);
  const short = texts.findIndex((text) => text.length <= LONG);
  if (short > 0) texts.unshift(...texts.splice(short, 1));
  return texts.length ? texts : [id];
}

export const titleOf = (gallery, hit) => wordsOf(gallery, hit)[0];

export function imageOf(gallery, { id, record }, alt = "") {
  const column = gallery.pictures.find((name) => record[name]);
  if (!column) return null;
  const image = node("img", { alt, decoding: "async" });
  const gone = () => (image.closest(".frame") ?? image).remove();
  image.addEventListener("error", gone);
  picture(id, column).then((url) => (image.src = url)).catch(gone);
  return image;
}

// Records, with their scores where they have one. `like` is called with the id of one to go on from.
export function show(gallery, hits, like) {
  const pictures = gallery.pictures.length > 0;
  list.classList.toggle("pictures", pictures);
  list.replaceChildren(...hits.map((hit, number) => {
    const made = card(gallery, hit, pictures);
    made.setAttribute("aria-label", `${number + 1}: ${made.getAttribute("aria-label")}`);
    made.querySelector("button").addEventListener("click", () => like(hit.id));
    return node("li", {}, made);
  }));
  choose(list.querySelector(".hit"));
  list.like = like;
}

function card(gallery, hit, pictures) {
  const [title, ...rest] = wordsOf(gallery, hit);
  const name = title.slice(0, LONG);
  const scored = hit.score !== undefined;
  const made = node("article", { className: "hit" });
  made.dataset.id = hit.id;
  made.setAttribute("aria-label", scored ? `${name}, score ${hit.score.toFixed(3)}` : name);
  const image = imageOf(gallery, hit, name);
  if (image) made.append(node("div", { className: "frame" }, image));
  made.append(node("p", { className: "title clamped", textContent: title }));
  if (!pictures && rest.length) {
    made.append(node("p", { className: "text clamped", textContent: rest[0] }));
  }
  const more = node("button", { type: "button", className: "link", textContent: "More like this" });
  more.setAttribute("aria-label", `More like ${name}`);
  const score = scored ? node("span", { className: "score", textContent: hit.score.toFixed(3), title: "Score" }) : "";
  made.append(node("div", { className: "foot" }, score, more), details(hit));
  return made;
}

function details(hit) {
  const values = node("dl", {}, node("dt", { textContent: "id" }), node("dd", { textContent: hit.id }));
  for (const [name, value] of Object.entries(hit.record)) {
    if (value === null) continue;
    const said = typeof value === "string" ? value : JSON.stringify(value);
    values.append(node("dt", { textContent: name }), node("dd", { textContent: said }));
  }
  return node("details", {}, node("summary", { textContent: "Record" }), values);
}

// One card is in the tab order, with what it holds.
function choose(hit) {
  for (const other of list.querySelectorAll(".hit")) {
    const order = other === hit ? 0 : -1;
    other.tabIndex = order;
    for (const inner of other.querySelectorAll("button, summary")) inner.tabIndex = order;
  }
  return hit;
}

export function focusFirst() {
  choose(list.querySelector(".hit"))?.focus();
}

list.addEventListener("keydown", (event) => {
  const hits = [...list.querySelectorAll(".hit")];
  const here = hits.indexOf(event.target.closest(".hit"));
  if (here < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  const row = hits.filter((hit) => hit.offsetTop === hits[0].offsetTop).length;
  const goal = {
    ArrowRight: here + 1, ArrowLeft: here - 1, ArrowDown: here + row, ArrowUp: here - row,
    Home: 0, End: hits.length - 1,
  }[event.key];
  if (goal !== undefined) {
    event.preventDefault();
    if (goal < 0) document.getElementById("text").focus();
    else choose(hits[Math.min(goal, hits.length - 1)]).focus();
  } else if (event.key === "Enter" && event.target === hits[here]) {
    event.preventDefault();
    list.like(hits[here].dataset.id);
  }
});
list.addEventListener("focusin", (event) => choose(event.target.closest(".hit")));
