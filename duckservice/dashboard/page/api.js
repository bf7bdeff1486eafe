// Requests of the page to its own origin, and what went wrong with them in words.

/** An answer that is no success; its message is for people. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** GET what is there, as JSON. */
export async function get(path) {
  return JSON.parse(await text(path));
}

/** GET what is there, as text. */
export async function text(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Refused(0, "unreachable", "The dashboard does not answer: is `duck dashboard` still running?");
  }
  const body = await answer.text();
  if (!answer.ok) throw refusal(answer.status, body);
  return body;
}

/** POST an action; its answer as JSON, where it has one. */
export async function post(path) {
  // The header is one that no other site's page can send without asking first.
  const body = await text(path, { method: "POST", headers: { "Duck-Dashboard": "1" } });
  return body ? JSON.parse(body) : null;
}

/** A path's parts, each made harmless. */
export const path = (...parts) => "/v1/" + parts.map(encodeURIComponent).join("/");

function refusal(status, body) {
  try {
    const { code, message } = JSON.parse(body).error;
    return new Refused(status, code, message);
  } catch {
    return new Refused(status, "error", `The dashboard answered ${status}: ${body.slice(0, 200) || "nothing"}`);
  }
}
