// Questions to the server; whatever goes wrong comes back as a sentence.

/** What the server refused, or that it did not answer; status is 0 then. */
export class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The server's answer, read as JSON. Throws a Refusal, or an AbortError where nobody waits any more. */
export async function fetched(path, question, signal) {
  const sent = question && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question) };
  let response, text;
  try {
    response = await fetch(path, { ...sent, signal });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server does not answer: does it still run?", 0);
  }
  const answer = parsed(text);
  if (response.ok && answer) return answer;
  throw new Refusal(answer?.error ?? `The server answered ${response.status}: ${text.slice(0, 200) || "nothing else"}`, response.status);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
