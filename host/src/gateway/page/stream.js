// The stream: reads /v1/events and comes back by itself, from where it was.
//
// In: a list of channels. Out: messages {event, channel, id, data}, and states.
// EventSource would do for one channel; reading the body ourselves also shows the field `channel`, tells a refusal
// from a lost connection, and lets the selection change without losing the place.

const DELAY_MAX = 30_000;
// Three heartbeats that did not come: the connection is dead, whatever the system says.
const SILENCE_MAX = 50_000;

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
      if (error.reconnect === "never" && abort === this.#abort) {
        abort.refused = true;
        this.onState("refused", error.message);
      }
      return;
    }
    this.#failures = 0;
    this.onState("live");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new Parser((message) => this.#take(abort, message));
    for (;;) {
      const silence = setTimeout(() => abort.abort(), SILENCE_MAX);
      const { done, value } = await reader.read();
      clearTimeout(silence);
      if (done || abort !== this.#abort) return;
      parser.push(value);
      this.#lastId = parser.lastId || this.#lastId;
      this.#delay = parser.retry ?? this.#delay;
    }
  }

  #take(abort, message) {
    if (abort === this.#abort) this.onMessage(message);
  }
}

/** The grammar of text/event-stream, for a server that ends its lines with LF. */
export class Parser {
  #onMessage;
  #rest = "";
  #fields = { event: "", channel: "", data: null };
  // Counts once its frame is whole: what was cut in the middle must come again.
  #id = undefined;

  constructor(onMessage) {
    this.#onMessage = onMessage;
    this.lastId = "";
    this.retry = undefined;
  }

  push(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    lines.forEach((line) => this.#line(line));
  }

  #line(line) {
    if (line === "") {
      this.lastId = this.#id ?? this.lastId;
      this.#id = undefined;
      const { event, channel, data } = this.#fields;
      this.#fields = { event: "", channel: "", data: null };
      if (data !== null) this.#onMessage({ event, channel, data, id: this.lastId });
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") this.#fields.data = this.#fields.data === null ? value : `${this.#fields.data}\n${value}`;
    else if (name === "event" || name === "channel") this.#fields[name] = value;
    else if (name === "id") this.#id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
  }
}
