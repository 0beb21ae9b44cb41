// The admin listener as the page sees it: every request carries the token.
//
// In: the token. Out: answers, and events as they come. EventSource cannot send a header, so the stream is read by hand.

const DELAY = 2_000;
// Three heartbeats that did not come: the connection is dead, whatever the system says.
const SILENCE_MAX = 50_000;

export class Refused extends Error {}

export class Server {
  #token;

  constructor(token) {
    this.#token = token;
  }

  async get(path) {
    return (await this.#fetch(path)).json();
  }

  /** Reads events until `signal`; comes back by itself. `onEvent(name, data)`, `onState(connected)`. */
  async follow(path, signal, onEvent, onState) {
    while (!signal.aborted) {
      try {
        await this.#read(path, signal, onEvent, onState);
      } catch (error) {
        if (error instanceof Refused) throw error;
      }
      if (signal.aborted) return;
      onState(false);
      await new Promise((resolve) => setTimeout(resolve, DELAY));
    }
  }

  async #read(path, signal, onEvent, onState) {
    const abort = new AbortController();
    const end = () => abort.abort();
    signal.addEventListener("abort", end);
    try {
      const answer = await this.#fetch(path, abort.signal);
      onState(true);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const silence = setTimeout(end, SILENCE_MAX);
        const { done, value } = await reader.read();
        clearTimeout(silence);
        if (done) return;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) dispatch(block, onEvent);
      }
    } finally {
      signal.removeEventListener("abort", end);
    }
  }

  async #fetch(path, signal) {
    const headers = { Authorization: `Bearer ${this.#token}` };
    const answer = await fetch(path, { headers, signal, cache: "no-store" });
    if (answer.ok) return answer;
    const body = await answer.json().catch(() => null);
    const message = body?.error?.message ?? `the server answers ${answer.status}`;
    throw answer.status === 401 ? new Refused(message) : new Error(message);
  }
}

function dispatch(block, onEvent) {
  let name = "";
  let data = null;
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data = line.slice(6);
  }
  if (data !== null) onEvent(name, JSON.parse(data));
}
