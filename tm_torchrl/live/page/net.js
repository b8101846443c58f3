// Requests to the server of this page. All addresses are relative, so they carry the token. A report has no server: what
// it would answer is in the page.

export class ServerError extends Error {}

const kept = JSON.parse(document.getElementById("answers")?.textContent ?? "null");
export const isReport = kept !== null;

async function answer(path, query, options) {
  if (isReport) return answerKept(path, query);
  const response = await fetch(`api/${path}?${new URLSearchParams(query)}`, { cache: "no-store", ...options });
  if (response.status === 304) return null;
  const data = await response.json();
  if (!response.ok) throw new ServerError(data.error);
  return { data, state: response.headers.get("ETag") };
}

function answerKept(path, query) {
  const found = kept[[path, ...Object.values(query)].join("\n")];
  if (found === undefined) throw new ServerError("This is not kept in the report; tm-torchrl live shows it.");
  return { data: found, state: "kept" };
}

/** Data of a path; rejects with a ServerError if the server has none, with another error if there is no server. */
export async function get(path, query = {}) {
  return (await answer(path, query)).data;
}

/** Data that changed since a state, and the new state; null if nothing did. */
export const getChanged = (path, query, state) =>
  isReport && state ? null : answer(path, query, state ? { headers: { "If-None-Match": state } } : {});

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await answer(path, {}, { method: "POST", headers, body: JSON.stringify(body) })).data;
}

/**
 * Call a function again and again while the page is seen; after a lost connection it is tried more slowly.
 */
export function repeat(work, everyS, onConnection) {
  let timer = 0;
  let failures = 0;
  async function turn() {
    clearTimeout(timer);
    try {
      if (isReport || !document.hidden) await work();
      if (failures) onConnection(true);
      failures = 0;
    } catch (error) {
      if (error instanceof ServerError) throw error;
      failures += 1;
      onConnection(false);
    } finally {
      if (!isReport) timer = setTimeout(turn, 1000 * Math.min(everyS * (1 + failures), 10));
    }
  }
  if (!isReport) document.addEventListener("visibilitychange", () => document.hidden || turn());
  turn();
}
