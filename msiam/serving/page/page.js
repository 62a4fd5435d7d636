// The search page: what is asked, by text, by picture or from a record, and what came of it. The
// address holds what was asked, so that it can be kept, sent, and gone back to.

import { focusFirst, imageOf, node, show, titleOf } from "./results.js";
import { call, find, forget, inMemory, keep, letGo, records } from "./server.js";

const at = (id) => document.getElementById(id);
const [form, text, where, k, threshold, picture] =
  ["search", "text", "where", "k", "threshold", "picture"].map(at);
const [results, status, problem, asked] = ["results", "status", "problem", "asked"].map(at);

let gallery = null; // what /gallery says
let turn = 0; // the newest request; the answer of an older one is dropped
let query = null; // {text}, {id} or {file}; null: the first records are shown

const plural = (count, one) => `${count.toLocaleString("en")} ${count === 1 ? one : `${one}s`}`;

// ---- Searching

// Show what `work` gives, [hits, a line that says what they are], unless more was asked meanwhile.
async function settle(work) {
  const mine = ++turn;
  tell(null);
  results.classList.add("busy");
  results.setAttribute("aria-busy", "true");
  try {
    const [hits, said] = await work();
    if (mine !== turn) return;
    letGo();
    await showAsked(mine);
    if (mine !== turn) return;
    show(gallery, hits, like);
    status.textContent = said;
    at("keys").hidden = !hits.length;
  } catch (error) {
    if (error.detail === undefined) throw error;
    if (mine !== turn) return;
    tell(error);
    results.replaceChildren();
    status.textContent = "";
    asked.hidden = true;
    at("keys").hidden = true;
  } finally {
    if (mine === turn) {
      results.classList.remove("busy");
      results.removeAttribute("aria-busy");
    }
  }
}

function search(next, remember = true) {
  query = next;
  const options = { k: Number(k.value) };
  where.value = where.value.trim(); // the server counts its characters
  if (where.value) options.where = where.value;
  if (threshold.checked) options.threshold = "run";
  if (remember) history.pushState(null, "", address());
  const began = performance.now();
  return settle(async () => {
    const hits = await find(query, options);
    const took = Math.max(1, Math.round(performance.now() - began));
    return [hits, hits.length ? `${plural(hits.length, "result")} in ${took} ms` : "Nothing was found."];
  });
}

function browse() {
  query = null;
  return settle(async () => {
    const found = await records({ limit: k.value });
    const all = found.length === gallery.records;
    return [found, all ? "" : `The first ${found.length}; search to see others.`];
  });
}

async function like(id) {
  text.value = "";
  picture.value = "";
  await search({ id });
  focusFirst();
  scrollTo({ top: 0 });
}

// What was asked, where the box does not say it: a record, or a picture.
async function showAsked(mine) {
  asked.hidden = !(query?.id || query?.file);
  if (asked.hidden) return;
  const back = node("button", { type: "button", className: "link", textContent: "Clear" });
  back.addEventListener("click", clear);
  let image, name;
  if (query.file) {
    image = node("img", { src: inMemory(query.file), alt: "" });
    name = query.file.name || "this picture";
  } else {
    const [found] = await records({ id: query.id });
    if (mine !== turn) return;
    image = imageOf(gallery, found);
    name = titleOf(gallery, found);
  }
  asked.replaceChildren(image ?? "", node("p", { textContent: `Like ${name}` }), back);
}

function clear() {
  picture.value = "";
  history.pushState(null, "", location.pathname);
  text.focus();
  return browse();
}

function tell(error) {
  problem.hidden = !error;
  problem.textContent = error ? error.detail : "";
  const filter = Boolean(error?.detail.startsWith("where:"));
  where.setAttribute("aria-invalid", String(filter));
  if (filter) where.focus();
  const spot = filter && error.detail.match(/\(character (\d+)\)/);
  if (spot) where.setSelectionRange(spot[1] - 1, spot[1] - 1);
  if (error?.status === 401) {
    forget();
    problem.hidden = !at("token").value;
    at("gate").hidden = false;
    form.hidden = true;
    at("token").focus();
  }
}

// ---- Asking

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (text.value.trim()) search({ text: text.value });
  else if (query?.id || query?.file) search(query);
  else text.focus();
});

for (const option of [k, threshold]) {
  option.addEventListener("change", () => (query ? search(query) : browse()));
}

text.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") {
    event.preventDefault();
    focusFirst();
  }
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if ((event.key === "/" && !typing) || (event.key === "Escape" && event.target !== text)) {
    event.preventDefault();
    text.focus();
    text.select();
  }
});

// ---- By a picture that is chosen, pasted or dropped

const takesPictures = () => gallery?.queries.includes("picture");

function withFile(file) {
  if (!file) return;
  text.value = "";
  search({ file });
}

picture.addEventListener("change", () => withFile(picture.files[0]));
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (takesPictures()) withFile(file);
});

const drop = at("drop");
let inside = 0; // how many nodes the dragged file is over
const dragged = (event) => takesPictures() && event.dataTransfer.types.includes("Files");
document.addEventListener("dragenter", (event) => {
  if (dragged(event)) drop.hidden = !++inside;
});
document.addEventListener("dragleave", (event) => {
  if (dragged(event)) drop.hidden = !(inside = Math.max(0, inside - 1));
});
document.addEventListener("dragover", (event) => dragged(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!dragged(event)) return;
  event.preventDefault();
  inside = 0;
  drop.hidden = true;
  withFile(event.dataTransfer.files[0]);
});

// ---- The address, and the beginning

function address() {
  const said = new URLSearchParams();
  if (query.text) said.set("q", query.text);
  if (query.id) said.set("like", query.id);
  if (where.value) said.set("where", where.value);
  if (k.value !== "20") said.set("k", k.value);
  if (threshold.checked) said.set("matches", "1");
  return `?${said}`;
}

function restore() {
  const said = new URLSearchParams(location.search);
  text.value = said.get("q") || "";
  where.value = said.get("where") || "";
  k.value = said.get("k") || "20";
  if (k.selectedIndex < 0) k.value = "20";
  threshold.checked = said.has("matches");
  if (said.get("q")) search({ text: said.get("q") }, false);
  else if (said.get("like")) search({ id: said.get("like") }, false);
  else browse();
}

addEventListener("popstate", restore);

at("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  keep(at("token").value);
  begin();
});

async function begin() {
  try {
    gallery = await (await call("gallery")).json();
  } catch (error) {
    if (error.detail === undefined) throw error;
    tell(error);
    return;
  }
  tell(null);
  at("gate").hidden = true;
  form.hidden = false;
  at("count").textContent = plural(gallery.records, "record");
  at("upload").hidden = !takesPictures();
  at("matches").hidden = gallery.threshold === null;
  const example = gallery.columns.find((column) => !gallery.pictures.includes(column));
  where.placeholder = example ? `${example} = '…'` : "";
  text.disabled = !gallery.queries.includes("text");
  const drops = takesPictures() && matchMedia("(min-width: 40rem)").matches;
  text.placeholder = text.disabled ? "Drop a picture, or choose one"
    : drops ? "Type a text, or drop a picture" : "Type a text";
  restore();
  if (!text.disabled && !matchMedia("(pointer: coarse)").matches) text.focus(); // no keyboard opens
}

begin();
