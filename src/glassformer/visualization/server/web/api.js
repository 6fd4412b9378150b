// Requests to the server.

/** An error response, or no response: status is 0 then. */
export class RequestError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The JSON response to a request: GET without a body, else POST. Throws a RequestError, or an AbortError after an abort. */
export async function fetchJson(path, body, signal) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response, text;
  try {
    response = await fetch(path, { ...options, signal });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError("The server does not respond. Is it still running?", 0);
  }
  const value = parse(text);
  if (response.ok && value) return value;
  throw new RequestError(value?.error ?? `The server responded with status ${response.status}: ${text.slice(0, 200) || "no message"}`, response.status);
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
