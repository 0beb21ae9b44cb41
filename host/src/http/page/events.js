// text/event-stream, read by hand.
//
// In: the answer to a request. Out: its pieces of text, and the messages {event, channel, id, data} in them.

// Three heartbeats that did not come: the connection is dead, whatever the system says.
const SILENCE_MAX = 50_000;

/** The text of an answer as it comes; calls `onSilence` when nothing has come for too long. */
export async function* pieces(answer, onSilence) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const silence = setTimeout(onSilence, SILENCE_MAX);
    const { done, value } = await reader.read();
    clearTimeout(silence);
    if (done) return;
    yield value;
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
