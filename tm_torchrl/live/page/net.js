// Requests to the server of this page. All addresses are relative, so they carry the token.

export class ServerError extends Error {}

async function answer(path, options) {
  const response = await fetch(`api/${path}`, { cache: "no-store", ...options });
  if (response.status === 304) return null;
  const data = await response.json();
  if (!response.ok) throw new ServerError(data.error);
  return { data, state: response.headers.get("ETag") };
}

const words = (query) => new URLSearchParams(query).toString();

/** Data of a path; rejects with a ServerError if the server has none, with another error if there is no server. */
export async function get(path, query = {}) {
  return (await answer(`${path}?${words(query)}`)).data;
}

/** Data that changed since a state, and the new state; null if nothing did. */
export const getChanged = (path, query, state) =>
  answer(`${path}?${words(query)}`, state ? { headers: { "If-None-Match": state } } : {});

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await answer(path, { method: "POST", headers, body: JSON.stringify(body) })).data;
}

/**
 * Call a function again and again while the page is seen; after a lost connection it is tried more slowly.
 * Returns a function that calls it at once.
 */
export function repeat(work, everyS, onConnection) {
  let timer = 0;
  let failures = 0;
  async function turn() {
    clearTimeout(timer);
    try {
      if (!document.hidden) await work();
      if (failures) onConnection(true);
      failures = 0;
    } catch (error) {
      if (error instanceof ServerError) throw error;
      failures += 1;
      onConnection(false);
    } finally {
      timer = setTimeout(turn, 1000 * Math.min(everyS * (1 + failures), 10));
    }
  }
  document.addEventListener("visibilitychange", () => document.hidden || turn());
  turn();
  return turn;
}
