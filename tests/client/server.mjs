// A server in memory, as WebSocket and fetch of the module see it. It keeps what docs/protocol.md promises, and can be
// made to cut, to refuse and to be away.

export class Server {
  epoch = "e1";
  sequence = 0;
  history = [];
  sockets = new Set();
  streams = new Set();
  waiting = new Set();
  /** What was asked, as text, in order. */
  asked = [];
  /** Answers that are not the usual: `(url, token) => { status, error, headers }`, or nothing. */
  refuse = () => undefined;
  /** Likewise of a WebSocket's commands: an error, or nothing. */
  refuseCommand = () => undefined;
  published = [];
  isAway = false;
  hasSockets = true;

  get id() {
    return `${this.epoch}.${this.sequence}`;
  }

  publish(channel, json, { isKept = true, event = "said" } = {}) {
    if (isKept) this.sequence += 1;
    const message = { type: "message", channel, event, json, ...(isKept && { id: this.id }) };
    if (isKept) this.history.push(message);
    for (const client of [...this.sockets, ...this.streams, ...this.waiting]) client.tell(message);
  }

  /** What is kept of these channels after an id. */
  after(channels, id) {
    const from = Number(id.split(".")[1]);
    return this.history.filter((message) => channels.includes(message.channel) && Number(message.id.split(".")[1]) > from);
  }

  /** All connections are lost. */
  cut() {
    for (const client of [...this.sockets, ...this.streams, ...this.waiting]) client.cut();
  }

  get count() {
    return this.sockets.size + this.streams.size + this.waiting.size;
  }

  /** Puts it where the module looks. */
  install() {
    const server = this;
    globalThis.WebSocket = class extends Socket {
      static OPEN = 1;
      constructor(address) {
        super(server, address);
      }
    };
    globalThis.fetch = (address, options) => this.#fetch(new URL(address), options);
  }

  async #fetch(url, { method, headers, body, signal }) {
    const token = headers.authorization?.slice("Bearer ".length);
    this.asked.push(`${method} ${url.pathname}${url.search}`);
    await turn();
    signal?.throwIfAborted();
    if (this.isAway) throw new TypeError("fetch failed");
    const refused = this.refuse(url, token);
    if (refused) return Response.json(refused.body ?? { error: refused.error }, refused);
    const channels = url.searchParams.getAll("channel");
    if (url.pathname === "/v1/events") return this.#events(url, channels, signal);
    if (url.pathname === "/v1/poll") return this.#poll(url, channels, signal);
    const channel = decodeURIComponent(url.pathname.split("/")[3]);
    const spoken = { channel, id: headers["idempotency-key"], ...JSON.parse(body) };
    this.published.push(spoken);
    return Response.json({ kept: true, receipt: "1" }, { status: 202 });
  }

  #events(url, channels, signal) {
    const server = this;
    const id = url.searchParams.get("last_event_id");
    const first = id === null ? `retry: 0\nid: ${this.id}\n\n` : "retry: 0\n\n";
    const text = [first, ...(id === null ? [] : this.after(channels, id).map(block))].join("");
    const stream = new ReadableStream({
      start(controller) {
        const bytes = (text) => new TextEncoder().encode(text);
        const client = {
          tell: (message) => channels.includes(message.channel) && controller.enqueue(bytes(block(message))),
          say: (text) => controller.enqueue(bytes(text)),
          end: () => server.streams.delete(client) && controller.close(),
          cut: () => server.streams.delete(client) && controller.error(new TypeError("network error")),
        };
        server.streams.add(client);
        signal.addEventListener("abort", () => client.cut());
        controller.enqueue(bytes(text));
      },
    });
    return new Response(stream);
  }

  #poll(url, channels, signal) {
    const id = url.searchParams.get("after");
    if (id === null) return Response.json({ messages: [], id: this.id });
    const messages = this.after(channels, id);
    if (messages.length > 0 || url.searchParams.get("wait") === "0") return Response.json({ messages, id: this.id });
    return new Promise((resolve, reject) => {
      const client = {
        tell: (message) => {
          if (!channels.includes(message.channel)) return;
          this.waiting.delete(client);
          resolve(Response.json({ messages: [message], id: this.id }));
        },
        cut: () => this.waiting.delete(client) && reject(new TypeError("fetch failed")),
      };
      this.waiting.add(client);
      signal.addEventListener("abort", () => client.cut());
    });
  }
}

/** One WebSocket; what each side says arrives some turns later. */
class Socket {
  readyState = 0;
  #server;
  #channels = new Set();

  constructor(server, address) {
    this.#server = server;
    server.asked.push(`socket ${new URL(address).pathname}${new URL(address).search}`);
    this.#later(() => {
      if (server.isAway || !server.hasSockets) return this.#end(1006);
      this.readyState = 1;
      server.sockets.add(this);
      this.onopen?.();
      this.say({ type: "hello", heartbeat_ms: 15_000 });
    });
  }

  async #later(act) {
    await turn();
    if (this.readyState < 3) act();
  }

  say(item) {
    this.#later(() => this.onmessage?.({ data: JSON.stringify(item) }));
  }

  tell(message) {
    if (this.#channels.has(message.channel)) this.say(message);
  }

  send(text) {
    this.#later(() => this.#obey(JSON.parse(text)));
  }

  #obey({ ref, ...command }) {
    const server = this.#server;
    server.asked.push(JSON.stringify(command));
    const error = server.refuseCommand(command);
    if (error) return this.say({ type: "error", ref, message: "", ...error });
    if (command.type === "subscribe") {
      const ids = command.channels.map(({ channel, after = server.id }) => ({ channel, id: after }));
      command.channels.forEach(({ channel }) => this.#channels.add(channel));
      this.say({ type: "subscribed", ref, channels: ids });
      for (const { channel, id } of ids) server.after([channel], id).forEach((message) => this.say(message));
    } else if (command.type === "unsubscribe") {
      command.channels.forEach((channel) => this.#channels.delete(channel));
      this.say({ type: "unsubscribed", ref, channels: command.channels });
    } else if (command.type === "publish") {
      server.published.push(command);
      this.say({ type: "published", ref, kept: true, receipt: "1" });
    } else {
      this.say({ type: { refresh: "refreshed", ping: "pong" }[command.type], ref });
    }
  }

  /** Ends it with a last word. */
  dismiss(error) {
    this.say({ type: "error", message: "", ...error });
    this.#later(() => this.#end(error.code));
  }

  cut() {
    this.#end(1006);
  }

  close() {
    this.#server.sockets.delete(this);
    this.readyState = 3;
  }

  #end(code) {
    if (this.readyState === 3) return;
    this.close();
    this.onclose?.({ code });
  }
}

function block({ channel, id, event, json }) {
  const place = id === undefined ? "" : `id: ${id}\n`;
  return `event: ${event}\nchannel: ${channel}\n${place}data: ${JSON.stringify(json)}\n\n`;
}

/** Until everything that is due has happened once. */
export function turn() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Turns until it is so. */
export async function until(isSo, what = isSo) {
  for (let turns = 0; turns < 20_000; turns += 1) {
    if (isSo()) return;
    await turn();
  }
  throw new Error(`not so: ${what}`);
}

/** A token of a shape that the module reads. */
export function token(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none" })}.${part(claims)}.x`;
}
