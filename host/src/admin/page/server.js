// The admin listener as the page sees it: every request carries the token.
//
// In: the token. Out: answers, and events as they come. EventSource cannot send a header, so the stream is read by hand.

import { Parser, pieces } from "./events.js";

const DELAY = 2_000;

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
      const parser = new Parser(({ event, data }) => onEvent(event, JSON.parse(data)));
      for await (const piece of pieces(answer, end)) parser.push(piece);
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
