// The stream: reads /v1/events and comes back by itself, from where it was.
//
// In: a list of channels. Out: messages {event, channel, id, data}, and states.
// EventSource would do for one channel; reading the body ourselves also shows the field `channel`, tells a refusal
// from a lost connection, and lets the selection change without losing the place.

import { Parser, pieces } from "/events.js";

const DELAY_MAX = 30_000;

export class Stream {
  #channels = [];
  #lastId = "";
  #delay = 2_000;
  #failures = 0;
  #abort = null;
  #timer = 0;

  /** `onMessage(message)`, `onState(state, detail)`: connecting, live, waiting (detail: ms), refused (text), idle. */
  constructor(onMessage, onState) {
    this.onMessage = onMessage;
    this.onState = onState;
  }

  /** Follows these channels instead of the ones before, from the same place. */
  follow(channels) {
    this.#channels = [...channels];
    this.#failures = 0;
    this.#connect();
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
    if (this.#channels.length === 0) {
      this.#lastId = "";
      this.onState("idle");
      return;
    }
    const abort = new AbortController();
    this.#abort = abort;
    this.onState("connecting");
    this.#read(abort).then(
      () => this.#comeBack(abort),
      () => this.#comeBack(abort),
    );
  }

  #comeBack(abort) {
    if (abort !== this.#abort || abort.refused) return;
    abort.abort();
    const delay = Math.min(this.#delay * 2 ** this.#failures, DELAY_MAX);
    this.#failures += 1;
    this.onState("waiting", delay);
    this.#timer = setTimeout(() => this.#connect(), delay);
  }

  async #read(abort) {
    const query = new URLSearchParams(this.#channels.map((channel) => ["channel", channel]));
    const headers = this.#lastId ? { "Last-Event-ID": this.#lastId } : {};
    const answer = await fetch(`/v1/events?${query}`, { headers, signal: abort.signal, cache: "no-store" });
    if (!answer.ok) {
      const { error } = await answer.json();
      this.#refuse(abort, error);
      return;
    }
    this.#failures = 0;
    this.onState("live");
    const parser = new Parser((message) => this.#take(abort, message));
    for await (const piece of pieces(answer, () => abort.abort())) {
      if (abort !== this.#abort) return;
      parser.push(piece);
      this.#lastId = parser.lastId || this.#lastId;
      this.#delay = parser.retry ?? this.#delay;
    }
  }

  #take(abort, message) {
    if (abort !== this.#abort) return;
    if (message.event === "refused") this.#refuse(abort, JSON.parse(message.data));
    else this.onMessage(message);
  }

  // Whoever may not, or no longer, need not come back with the same question.
  #refuse(abort, error) {
    if (error.reconnect !== "never" || abort !== this.#abort) return;
    abort.refused = true;
    this.onState("refused", error.message);
  }
}
