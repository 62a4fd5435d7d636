// The search page. It speaks to the same server's API, keeps what was asked in the address, and
// builds every node by hand, so that nothing of a record is ever read as HTML.

const at = (id) => document.getElementById(id);
const [form, text, where, k, threshold, picture] =
  ["search", "text", "where", "k", "threshold", "picture"].map(at);
const [results, status, problem, asked] = ["results", "status", "problem", "asked"].map(at);
const TOKEN = "msiam-token";

let gallery = null; // what /gallery says
let turn = 0; // the newest request; the answer of an older one is dropped
let query = null; // {text}, {id} or {file}
let urls = []; // of pictures in memory, to be let go

function node(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children.filter((child) => child !== null));
  return made;
}

// ---- The server

async function call(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw { detail: "The server does not answer." };
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw { status: answer.status, detail: said.detail || answer.statusText };
}

async function find(query, options) {
  if (query.file) {
    const body = new FormData();
    body.append("picture", query.file);
    for (const [name, value] of Object.entries(options)) body.append(name, value);
    return (await call("search/picture", { method: "POST", body })).json();
  }
  const body = JSON.stringify({ queries: [query], ...options });
  const headers = { "Content-Type": "application/json" };
  return (await call("search", { method: "POST", headers, body })).json();
}

// A picture's address. One that needs a token is fetched, since an <img> cannot bring it.
async function source(id, column) {
  const path = `pictures?${new URLSearchParams({ id, column })}`;
  if (!sessionStorage.getItem(TOKEN)) return path;
  const url = URL.createObjectURL(await (await call(path)).blob());
  urls.push(url);
  return url;
}

// ---- Searching

async function search(next, remember = true) {
  query = next;
  const mine = ++turn;
  const options = { k: Number(k.value) };
  if (where.value.trim()) options.where = where.value.trim();
  if (threshold.checked) options.threshold = "run";
  if (remember && !query.file) history.pushState(null, "", address());
  tell(null);
  results.classList.add("busy");
  results.setAttribute("aria-busy", "true");
  const began = performance.now();
  try {
    const { results: [found] } = await find(query, options);
    if (mine !== turn) return;
    urls.forEach(URL.revokeObjectURL);
    urls = [];
    await showAsked();
    show(found.hits);
    const many = found.hits.length === 1 ? "1 result" : `${found.hits.length} results`;
    const took = Math.max(1, Math.round(performance.now() - began));
    status.textContent = found.hits.length ? `${many} in ${took} ms` : "Nothing was found.";
  } catch (error) {
    if (mine !== turn) return;
    if (error.status === undefined && !error.detail) throw error;
    tell(error);
    results.replaceChildren();
    status.textContent = "";
  } finally {
    if (mine === turn) {
      results.classList.remove("busy");
      results.removeAttribute("aria-busy");
    }
  }
}

function tell(error) {
  problem.hidden = !error;
  problem.textContent = error ? error.detail : "";
  problem.classList.toggle("spot", Boolean(error && error.detail.includes("\n")));
  const filter = Boolean(error && error.detail.startsWith("where"));
  where.setAttribute("aria-invalid", String(filter));
  if (error && error.status === 401) {
    sessionStorage.removeItem(TOKEN);
    problem.hidden = !at("token").value;
    at("gate").hidden = false;
    at("token").focus();
  }
}

// What was asked, where the box does not say it: a record, or a picture.
async function showAsked() {
  asked.hidden = !(query.id || query.file);
  const back = node("button", { type: "button", className: "link", textContent: "Clear" });
  back.addEventListener("click", clear);
  if (query.file) {
    const url = URL.createObjectURL(query.file);
    urls.push(url);
    asked.replaceChildren(
      node("img", { src: url, alt: "" }), node("p", { textContent: `Like ${query.file.name || "this picture"}` }), back);
  } else if (query.id) {
    const answer = await call(`records?${new URLSearchParams({ id: query.id })}`);
    const { records: [found] } = await answer.json();
    asked.replaceChildren(
      await thumbnail(found) ?? "", node("p", { textContent: `Like ${titleOf(found)}` }), back);
  }
}

function clear() {
  asked.hidden = true;
  query = null;
  turn++;
  results.replaceChildren();
  status.textContent = "";
  tell(null);
  history.pushState(null, "", location.pathname);
  text.focus();
}

// ---- Results

const pictureOf = (hit) => gallery.pictures.find((column) => hit.record[column]);

async function thumbnail(hit) {
  const column = pictureOf(hit);
  return column ? node("img", { src: await source(hit.id, column), alt: "" }) : null;
}

// The columns with words: the gallery's own first.
function textsOf(hit) {
  const names = Object.keys(hit.record).filter(
    (name) => !gallery.pictures.includes(name) && typeof hit.record[name] === "string" && hit.record[name].trim());
  const own = names.filter((name) => name === gallery.column);
  return [...own, ...names.filter((name) => name !== gallery.column)];
}

function titleOf(hit) {
  const [first] = textsOf(hit);
  return first ? hit.record[first] : hit.id;
}

function show(hits) {
  results.classList.toggle("pictures", hits.some(pictureOf));
  results.replaceChildren(...hits.map((hit, number) => node("li", {}, card(hit, number))));
  at("keys").hidden = !hits.length;
}

function card(hit, number) {
  const title = titleOf(hit);
  const score = node("span", { className: "score", textContent: hit.score.toFixed(3), title: "Score" });
  const more = node("button", { type: "button", className: "link", textContent: "More like this" });
  more.tabIndex = number ? -1 : 0;
  more.setAttribute("aria-label", `More like ${title.slice(0, 100)}`);
  more.addEventListener("click", () => like(hit.id));
  const made = node("article", { className: "hit", tabIndex: number ? -1 : 0 });
  made.dataset.id = hit.id;
  made.setAttribute("aria-label", `${number + 1}: ${title.slice(0, 200)}, score ${hit.score.toFixed(3)}`);
  const column = pictureOf(hit);
  if (column) {
    const image = node("img", { alt: title.slice(0, 200), loading: "lazy", decoding: "async" });
    source(hit.id, column).then((url) => (image.src = url)).catch(() => image.remove());
    made.append(node("div", { className: "frame" }, image));
  }
  const texts = textsOf(hit);
  const body = texts.slice(0, column ? 1 : 2).map((name, place) => node("p", {
    className: place || column ? "text clamped" : "text clamped title", textContent: hit.record[name] }));
  made.append(...(body.length || column ? body : [node("p", { className: "text title", textContent: hit.id })]));
  made.append(details(hit));
  made.append(node("div", { className: "foot" }, score, more));
  return made;
}

function details(hit) {
  const list = node("dl", {}, node("dt", { textContent: "id" }), node("dd", { textContent: hit.id }));
  for (const [name, value] of Object.entries(hit.record)) {
    if (value === null) continue;
    const said = typeof value === "string" ? value : JSON.stringify(value);
    list.append(node("dt", { textContent: name }), node("dd", { textContent: said }));
  }
  const summary = node("summary", { textContent: "Record", tabIndex: -1 });
  return node("details", {}, summary, list);
}

function like(id) {
  text.value = "";
  picture.value = "";
  search({ id }).then(() => {
    const first = results.querySelector(".hit");
    if (first) focusOn(first);
    scrollTo({ top: 0 });
  });
}

// ---- By keyboard: one result is in the tab order, the arrows move among them.

function focusOn(hit) {
  for (const other of results.querySelectorAll(".hit")) {
    const chosen = other === hit;
    other.tabIndex = chosen ? 0 : -1;
    for (const inner of other.querySelectorAll("button, summary")) inner.tabIndex = chosen ? 0 : -1;
  }
  hit.focus();
}

results.addEventListener("keydown", (event) => {
  const hits = [...results.querySelectorAll(".hit")];
  const here = hits.indexOf(event.target.closest(".hit"));
  if (here < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  const tops = new Set(hits.map((hit) => hit.offsetTop));
  const columns = Math.max(1, Math.round(hits.length / tops.size));
  const row = hits.filter((hit) => hit.offsetTop === hits[0].offsetTop).length || columns;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row }[event.key];
  let goal = { Home: 0, End: hits.length - 1 }[event.key];
  if (step) goal = here + step;
  if (goal !== undefined) {
    event.preventDefault();
    if (goal < 0) text.focus();
    else focusOn(hits[Math.min(goal, hits.length - 1)]);
  } else if (event.key === "Enter" && event.target === hits[here]) {
    event.preventDefault();
    like(hits[here].dataset.id);
  }
});

text.addEventListener("keydown", (event) => {
  const first = results.querySelector(".hit");
  if (event.key === "ArrowDown" && first) {
    event.preventDefault();
    focusOn(first);
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

// ---- Asking: by text, by a picture that is chosen, dropped or pasted

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (text.value.trim()) search({ text: text.value });
  else if (query) search(query);
});

for (const option of [k, threshold]) {
  option.addEventListener("change", () => query && search(query));
}

function withFile(file) {
  if (!file) return;
  text.value = "";
  search({ file });
}

picture.addEventListener("change", () => withFile(picture.files[0]));
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file && takesPictures()) withFile(file);
});

const takesPictures = () => gallery && gallery.queries.includes("picture");
let inside = 0; // how many nodes the dragged file is over
const drop = at("drop");
const dragged = (event) => takesPictures() && [...event.dataTransfer.types].includes("Files");
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
  if (where.value.trim()) said.set("where", where.value.trim());
  if (k.value !== "10") said.set("k", k.value);
  if (threshold.checked) said.set("matches", "1");
  return `?${said}`;
}

function restore() {
  const said = new URLSearchParams(location.search);
  text.value = said.get("q") || "";
  where.value = said.get("where") || "";
  k.value = said.get("k") || "10";
  if (k.selectedIndex < 0) k.value = "10";
  threshold.checked = said.has("matches");
  if (said.get("q")) search({ text: said.get("q") }, false);
  else if (said.get("like")) search({ id: said.get("like") }, false);
  else results.replaceChildren(), (asked.hidden = true), (status.textContent = "");
}

addEventListener("popstate", restore);

at("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, at("token").value);
  begin();
});

async function begin() {
  try {
    gallery = await (await call("gallery")).json();
  } catch (error) {
    tell(error);
    return;
  }
  tell(null);
  at("gate").hidden = true;
  const records = gallery.records === 1 ? "1 record" : `${gallery.records.toLocaleString("en")} records`;
  at("count").textContent = records;
  at("upload").hidden = !takesPictures();
  at("matches").hidden = gallery.threshold === null;
  const example = gallery.columns.find((column) => !gallery.pictures.includes(column));
  where.placeholder = example ? `${example} = '…'` : "";
  const droppable = takesPictures() && matchMedia("(pointer: fine) and (min-width: 40rem)").matches;
  text.placeholder = droppable ? "Type a text, or drop a picture" : "Type a text";
  text.disabled = !gallery.queries.includes("text");
  restore();
}

begin();
