// What the page asks of its server. A token is kept for as long as the tab is open.

const TOKEN = "msiam-token";
let fetched = []; // addresses of pictures in memory, to be let go

export const keep = (token) => sessionStorage.setItem(TOKEN, token);
export const forget = () => sessionStorage.removeItem(TOKEN);

// The answer; throws {status, detail}.
export async function call(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw { status: 0, detail: "The server does not answer." };
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw { status: answer.status, detail: said.detail || answer.statusText };
}

// The hits of a query: {text}, {id} or {file}.
export async function find(query, options) {
  let answer;
  if (query.file) {
    const body = new FormData();
    body.append("picture", query.file);
    for (const [name, value] of Object.entries(options)) body.append(name, value);
    answer = await call("search/picture", { method: "POST", body });
  } else {
    const body = JSON.stringify({ queries: [query], ...options });
    const headers = { "Content-Type": "application/json" };
    answer = await call("search", { method: "POST", headers, body });
  }
  return (await answer.json()).results[0].hits;
}

export async function records(asked) {
  return (await (await call(`records?${new URLSearchParams(asked)}`)).json()).records;
}

// A picture's address. One that needs a token is fetched, since an <img> cannot bring it.
export async function picture(id, column) {
  const path = `pictures?${new URLSearchParams({ id, column, side: 480 })}`;
  if (!sessionStorage.getItem(TOKEN)) return path;
  return inMemory(await (await call(path)).blob());
}

export function inMemory(file) {
  const url = URL.createObjectURL(file);
  fetched.push(url);
  return url;
}

export function letGo() {
  fetched.forEach(URL.revokeObjectURL);
  fetched = [];
}
