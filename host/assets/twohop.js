// The browser's client of Twohop: an ES module without dependencies. docs/client.md says how to use it.
//
// In: channels to listen to, each from an id or from now on. Out: their messages, in order, once; or a reset.
//
//   Feed ──► Core ──► a line: SocketLine, EventsLine or PollLine       what a page has, what keeps it up, one connection
//   Feed ──► Remote ─ ─ port ─ ─► Core, in a SharedWorker              the same, with one Core for all tabs
//
// Always:
// - a subscription has a place, the last id that was handed over; it moves after the handler was called, and what lies
//   at or before it is passed over, from wherever it comes;
// - a line that has ended says nothing more; each line begins with the places that the one before has left;
// - a token is never in an address, and is stored nowhere.
//
// To a client, ids are opaque; to this one, which the server itself delivers, they are `EPOCH.SEQUENCE`, and have an
// order within an epoch. That is what lets subscriptions with different places share a connection.
//
// Not EventSource: it shows neither a message's channel nor events of a name that it was not told, cannot send a
// token, and does not say why it was refused. The stream is read by fetch instead.

/** How many times the module and a worker of it have changed how they talk. */
const PORT_VERSION = 1;
const DELAY_FIRST = 1_000;
const DELAY_MAX = 30_000;
/** From the first byte to a server's first word. */
const OPENS_WITHIN = 10_000;
/** Three heartbeats that did not come, and a moment: the connection is dead, whatever the system says. */
const SILENCE_MAX = 50_000;
const PONG_WITHIN = 5_000;
/** A connection that lived so long was not a failure. */
const STABLE_AFTER = 5_000;
const POLL_WAIT = 25;
const WORKER_ANSWERS_WITHIN = 5_000;
const TOKEN_WITHIN = 10_000;
/** Channels of one command, whose names and ids have to fit into 64 KiB. */
const CHANNELS_PER_COMMAND = 32;
const TIMER_MAX = 2 ** 31 - 1;
/** A token that ends sooner than this is not used for a new connection. */
const TOKEN_LEFT_MIN = 5_000;
const TOKEN_LEFT_AT_REFRESH = 30_000;
/** With another token, these may be answered otherwise. */
const OF_TOKENS = [4020, 4021, 4022, 4023];
/** These are about a channel, not about the connection. */
const OF_CHANNELS = [4004, 4006, 4012, 4020, 4024, 4027];
/** Why a line ends whose server a fetch does not reach: no other way would. */
const UNREACHABLE = { message: "the server cannot be reached" };

/** A feed: see `twohop.d.ts`. */
export function connect(options = {}) {
  return new Feed(options);
}

/** What a server said no to, by its code; code 0 if no server said anything. */
export class TwohopError extends Error {
  constructor({ code = 0, reason = "", message = "", reconnect = "later", channel }) {
    super(message);
    this.name = "TwohopError";
    Object.assign(this, { code, reason, reconnect, channel });
  }
}

/** What a page has. Its subscriptions outlive every connection, and the worker that has the connection. */
export class Feed extends EventTarget {
  #token;
  #settings;
  #isShared;
  #core = null;
  #subs = new Map();
  #publications = new Map();
  #count = 0;
  #state = { state: "idle" };
  #nudge = ({ type }) => this.#core?.nudge(type);

  constructor({ url, token, transport = "auto", shared = true, credentials = "same-origin" } = {}) {
    super();
    if (transport !== "auto" && !LINES[transport]) throw new TypeError(`there is no transport \`${transport}\``);
    const here = globalThis.location?.href ?? import.meta.url;
    const base = new URL(url ?? new URL("./", import.meta.url), here);
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    this.#token = token;
    this.#settings = { url: base.href, transport, credentials, hasToken: token !== undefined };
    this.#isShared = shared && canShare();
    globalThis.addEventListener?.("online", this.#nudge);
    globalThis.addEventListener?.("offline", this.#nudge);
    if (!this.#isShared) this.#stayAlone();
    else this.#join();
  }

  /** idle, connecting, live, waiting, refused, closed. */
  get state() {
    return this.#state.state;
  }

  /** websocket, events or poll, while there is a connection. */
  get transport() {
    return this.#state.transport;
  }

  /** Whether the connection is one for all tabs. */
  get shared() {
    return this.#core instanceof Remote;
  }

  subscribe(channel, handlers) {
    if (typeof channel !== "string" || channel === "") throw new TypeError("name a channel");
    if (typeof handlers === "function") handlers = { message: handlers };
    const key = String((this.#count += 1));
    this.#subs.set(key, { channel, handlers, place: handlers.after || undefined });
    this.#core?.subscribe(key, channel, handlers.after || undefined);
    return () => {
      if (this.#subs.delete(key)) this.#core?.unsubscribe(key);
    };
  }

  publish(channel, event, data, { id = randomId() } = {}) {
    if (this.state === "closed") return Promise.reject(new TwohopError({ message: "the feed is closed" }));
    const key = String((this.#count += 1));
    const publication = { channel, event: event || undefined, id, ...encoded(data) };
    return new Promise((resolve, reject) => {
      this.#publications.set(key, { publication, resolve, reject });
      this.#core?.publish(key, publication);
    });
  }

  reconnect() {
    this.#core?.reconnect();
  }

  close() {
    if (this.state === "closed") return;
    globalThis.removeEventListener?.("online", this.#nudge);
    globalThis.removeEventListener?.("offline", this.#nudge);
    this.#core?.close();
    this.#core = null;
    this.#subs.clear();
    this.#told("state", undefined, { state: "closed" });
    const error = new TwohopError({ message: "the feed was closed", reconnect: "never" });
    for (const { reject } of this.#publications.values()) reject(error);
    this.#publications.clear();
  }

  async #join() {
    this.#core = null;
    try {
      const subject = this.#settings.hasToken ? subjectOf(await this.#token()) : "";
      if (subject === undefined) return this.#stayAlone();
      const remote = await Remote.join(this.#settings, subject, this.#token, (...told) => this.#told(...told), () => this.#rejoin());
      if (this.state === "closed") return remote.close();
      this.#begin(remote);
    } catch {
      // No token at the moment, or no worker: the page's own connection copes with both.
      this.#stayAlone();
    }
  }

  /** The worker has died, or the token speaks for somebody else now. */
  #rejoin() {
    if (this.state !== "closed") this.#join();
  }

  #stayAlone() {
    if (this.state === "closed") return;
    this.#begin(new Core({ ...this.#settings, token: this.#token }, (...told) => this.#told(...told)));
  }

  #begin(core) {
    this.#core = core;
    for (const [key, { channel, place }] of this.#subs) core.subscribe(key, channel, place);
    for (const [key, { publication }] of this.#publications) core.publish(key, publication);
  }

  #told(what, keys, value) {
    if (this.state === "closed") return;
    if (what === "state") {
      this.#state = value;
      this.dispatchEvent(new CustomEvent("state", { detail: value }));
    } else if (what === "published") {
      this.#published(keys[0], value);
    } else if (what === "error") {
      this.#failed(keys, value);
    } else {
      if (what === "reset") this.dispatchEvent(new CustomEvent("reset", { detail: value }));
      for (const key of keys) this.#hand(what, key, value);
    }
  }

  #hand(what, key, value) {
    const sub = this.#subs.get(key);
    if (sub === undefined) return;
    call(sub.handlers, what, value);
    if (what === "reset") sub.place = value.id;
    else if (value.id) sub.place = later(sub.place, value.id);
  }

  #failed(keys, value) {
    const error = new TwohopError(value);
    for (const key of keys ?? []) {
      const sub = this.#subs.get(key);
      this.#subs.delete(key);
      call(sub?.handlers, "error", error);
    }
    this.dispatchEvent(new CustomEvent("error", { detail: error }));
  }

  #published(key, { error, ...answer }) {
    const waiting = this.#publications.get(key);
    this.#publications.delete(key);
    if (error) waiting?.reject(new TwohopError(error));
    else waiting?.resolve({ id: waiting.publication.id, ...answer });
  }
}

/** Keeps one connection up, and knows what each subscription was given. Says what happens by `tell(what, keys, value)`. */
class Core {
  #tell;
  #subs = new Map();
  #line = null;
  #attempt = null;
  #timer = 0;
  #failures = 0;
  #delayFirst = DELAY_FIRST;
  #isPatient = false;
  #liveSince = 0;
  #socketWorks = false;
  #transports = [];
  #token;
  #refusedToken;
  #isSyncing = false;
  #publications = new Map();
  state = "idle";
  /** Their subscriptions, by the channels' names. */
  channels = new Map();

  constructor(settings, tell) {
    this.settings = settings;
    this.#tell = tell;
  }

  get subs() {
    return this.#subs.values();
  }

  subscribe(key, channel, place) {
    const sub = { key, channel, place, isReady: false, isLocating: false };
    this.#subs.set(key, sub);
    if (!this.channels.has(channel)) this.channels.set(channel, new Set());
    this.channels.get(channel).add(sub);
    this.syncSoon();
  }

  unsubscribe(key) {
    const sub = this.#subs.get(key);
    if (sub === undefined) return;
    this.#subs.delete(key);
    const together = this.channels.get(sub.channel);
    together.delete(sub);
    if (together.size === 0) this.channels.delete(sub.channel);
    this.syncSoon();
  }

  publish(key, publication) {
    this.#publications.set(key, { key, publication, isSent: false });
    this.syncSoon();
  }

  /** The network is `online` or `offline` now: the moment to try, unless the server asked for patience, or to doubt. */
  nudge(network) {
    if (this.state !== "waiting") this.#line?.doubt();
    else if (network === "online" && !this.#isPatient) this.#connect();
  }

  /** Tries again at once, also what was refused. */
  reconnect() {
    if (this.state === "closed") return;
    this.#leave();
    this.#failures = 0;
    this.#token = this.#refusedToken = undefined;
    if (this.#isWanted) this.#connect();
    else this.#say("idle");
  }

  close() {
    this.#leave();
    this.state = "closed";
    this.#subs.clear();
    this.channels.clear();
    this.#publications.clear();
  }

  get #isWanted() {
    return this.#subs.size > 0 || this.#publications.size > 0;
  }

  /** What is subscribed in one go goes out in one. */
  syncSoon() {
    if (this.#isSyncing) return;
    this.#isSyncing = true;
    queueMicrotask(() => {
      this.#isSyncing = false;
      this.#sync();
    });
  }

  #sync() {
    if (!this.#isWanted) {
      if (!["idle", "closed"].includes(this.state)) {
        this.#leave();
        this.#say("idle");
      }
    } else if (this.state === "idle") {
      this.#connect();
    } else if (this.#line) {
      this.#line.sync();
      this.#sendPublications();
    }
  }

  #say(state, more = {}) {
    this.state = state;
    this.#tell("state", undefined, { state, ...more });
  }

  // ── Connecting, and coming back ──

  async #connect() {
    this.#leave();
    const attempt = (this.#attempt = {});
    this.#say("connecting");
    let token;
    try {
      token = await this.#credential();
    } catch (error) {
      if (attempt === this.#attempt) this.#failed({ message: `the token did not come: ${error?.message ?? error}` });
      return;
    }
    if (attempt !== this.#attempt) return;
    if (token !== undefined && token === this.#refusedToken?.token) return this.#giveUp(this.#refusedToken.error);
    if (this.#transports.length === 0) this.#transports = this.#choice();
    this.#liveSince = 0;
    this.#line = new LINES[this.#transports[0]](this, token);
  }

  /** In the order in which they are tried. Where a WebSocket has worked, nothing less is tried while it fails. */
  #choice() {
    const { transport } = this.settings;
    if (transport !== "auto") return [transport];
    if (typeof WebSocket === "undefined") return ["events", "poll"];
    return this.#socketWorks && this.#failures < 3 ? ["websocket"] : ["websocket", "events", "poll"];
  }

  async #credential() {
    if (!this.settings.hasToken) return undefined;
    const end = this.#token && endOf(this.#token);
    if (!this.#token || end - Date.now() < TOKEN_LEFT_MIN) this.#token = await this.settings.token();
    return this.#token;
  }

  /** Whether another token may be answered otherwise. */
  isOfToken({ code }) {
    return this.settings.hasToken && OF_TOKENS.includes(code);
  }

  /** Another token than the one that is in use, for a line that can change it. */
  async freshToken() {
    this.#token = undefined;
    return this.#credential();
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#attempt = null;
    const line = this.#line;
    this.#line = null;
    if (!line) return;
    line.settle();
    line.close();
    for (const waiting of this.#publications.values()) waiting.isSent = false;
  }

  /** A line: all that is subscribed stands. */
  live(line) {
    if (line !== this.#line || this.state === "live") return;
    this.#liveSince = Date.now();
    this.#refusedToken = undefined;
    if (line instanceof SocketLine) this.#socketWorks = true;
    this.#say("live", { transport: line.name });
    this.#sendPublications();
  }

  /** A line: it has ended, by what the server said, or by nothing. `delay` is what the server asks to wait, in ms. */
  ended(line, error, delay) {
    if (line !== this.#line) return;
    const wasLive = this.#liveSince > 0;
    if (wasLive && Date.now() - this.#liveSince > STABLE_AFTER) this.#failures = 0;
    this.#leave();
    const others = this.#transports.slice(1);
    this.#transports = [];
    if (error?.reconnect === "never") {
      if (!this.isOfToken(error)) return this.#giveUp(error);
      this.#refusedToken = { token: this.#token, error };
      this.#token = undefined;
      return this.#wait(this.#failures === 0 ? 0 : undefined);
    }
    // Nothing was heard at all: another way may get through.
    if (!wasLive && !error && others.length > 0) {
      this.#transports = others;
      return this.#connect();
    }
    this.#failed(error, delay);
  }

  #failed(error, delay) {
    if (error && error !== UNREACHABLE) this.#tell("error", undefined, error);
    const isLater = error?.reconnect === "later";
    this.#wait(delay ?? this.#jitter() + (isLater ? this.#delayFirst : 0));
    this.#isPatient = isLater || delay !== undefined;
  }

  #wait(delay = this.#jitter()) {
    this.#failures += 1;
    this.#isPatient = false;
    this.#say("waiting", { delay });
    this.#timer = setTimeout(() => this.#connect(), Math.min(delay, TIMER_MAX));
  }

  /** Anything up to a bound that doubles with each failure: those who fell together do not come back together. */
  #jitter() {
    return Math.random() * Math.min(DELAY_MAX, this.#delayFirst * 2 ** Math.min(this.#failures, 16));
  }

  /** How long a server wants clients to wait at least, in ms. */
  set delayFirst(delay) {
    this.#delayFirst = Math.min(delay, DELAY_MAX);
  }

  #giveUp(error) {
    this.#leave();
    this.#transports = [];
    this.#say("refused", { error });
    this.#tell("error", undefined, error);
    for (const key of this.#publications.keys()) this.#tell("published", [key], { error });
    this.#publications.clear();
  }

  /** A line: this channel may not be had. */
  refuse(channel, error) {
    const keys = [...(this.channels.get(channel) ?? [])].map(({ key }) => key);
    for (const key of keys) this.unsubscribe(key);
    if (keys.length > 0) this.#tell("error", keys, { ...error, channel });
  }

  // ── What lines hear ──

  /** A message, for those who do not have it; or what a channel stands at, for those who are new to it. */
  message(item) {
    const subs = [...(this.channels.get(item.channel) ?? [])];
    const isNews = (sub) => (item.value ? sub.place === undefined : !item.id || !covers(sub.place, item.id));
    const those = subs.filter((sub) => !sub.isLocating && isNews(sub));
    if (those.length === 0) return;
    this.#tell("message", those.map(({ key }) => key), item);
    if (item.id && !item.value) those.forEach((sub) => (sub.place = item.id));
  }

  reset({ channels, reason, id }) {
    const subs = channels.flatMap((channel) => [...(this.channels.get(channel) ?? [])]);
    // Who begins after it lacks nothing; unless the history itself has gone back.
    const those = subs.filter((sub) => reason === "ahead" || !covers(sub.place, id));
    if (those.length === 0) return;
    this.#tell("reset", those.map(({ key }) => key), { channels, reason, id });
    those.forEach((sub) => (sub.place = id));
  }

  /** These subscriptions stand, from this id on. */
  ready(subs, id) {
    for (const sub of [...subs].filter((sub) => !sub.isReady)) {
      sub.isReady = true;
      this.#tell("ready", [sub.key], { id: later(sub.place, id) });
    }
  }

  // ── Publishing ──

  #sendPublications() {
    if (this.state !== "live") return;
    for (const waiting of this.#publications.values()) {
      if (waiting.isSent) continue;
      waiting.isSent = true;
      const line = this.#line;
      const done = (value) => {
        if (this.#publications.delete(waiting.key)) this.#tell("published", [waiting.key], value);
        this.syncSoon();
      };
      line.publish(waiting.publication, ({ kept, receipt }) => done({ kept, receipt }), (error, delay) => {
        if (error?.reconnect === "never" && !this.isOfToken(error)) return done({ error });
        // It stays, under its own id: for the next connection, or later on this one.
        setTimeout(() => {
          if (line !== this.#line) return;
          waiting.isSent = false;
          this.#sendPublications();
        }, delay ?? this.#delayFirst + this.#jitter());
      });
    }
  }

  // ── HTTP ──

  address(path, query = []) {
    const address = new URL(path, this.settings.url);
    address.search = new URLSearchParams(query);
    return address;
  }

  /** An answer that is a success; throws `{ error, delay }` if the server refuses, and what fetch throws otherwise. */
  async ask(path, { query, signal, method = "GET", headers = {}, body }) {
    if (this.#token !== undefined) headers.authorization = `Bearer ${this.#token}`;
    const { credentials } = this.settings;
    const answer = await fetch(this.address(path, query), { method, headers, body, signal, credentials, cache: "no-store" });
    if (!answer.ok) throw await refusalOf(answer);
    return answer;
  }

  async poll(channels, { after, wait, signal } = {}) {
    const query = channels.map((channel) => ["channel", channel]);
    if (after !== undefined) query.push(["after", after], ["wait", wait]);
    return (await this.ask("v1/poll", { query, signal })).json();
  }

  /** For those who begin now beside others who are elsewhere: what their channels stand at. Gives where `now` is. */
  async begin(subs, signal) {
    const { id, messages } = await this.poll([...new Set(subs.map((sub) => sub.channel))], { signal });
    for (const item of messages) {
      const those = subs.filter((sub) => sub.channel === item.channel && sub.place === undefined);
      if (those.length > 0) this.#tell("message", those.map(({ key }) => key), messageOf(item));
    }
    return id;
  }
}

/** A WebSocket: each channel has a place of its own, and channels come and go. */
class SocketLine {
  name = "websocket";
  #core;
  #socket;
  #refs = 0;
  /** What answers are waited for. */
  #asked = new Map();
  /** By channel: what the server was asked for: `{ place, stands }`. */
  #seats = new Map();
  /** The subscriptions that it counts in. */
  #subs = new Set();
  #opening;
  #alone = new Set();
  #heartbeat = SILENCE_MAX / 3;
  #heard = Date.now();
  #watch;
  #refresh;
  #last = {};

  constructor(core, token) {
    this.#core = core;
    const address = core.address("v1/ws");
    address.protocol = address.protocol.replace("http", "ws");
    const socket = (this.#socket = new WebSocket(address));
    socket.onopen = () => this.#begin(token);
    socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    socket.onclose = ({ code }) => this.#close(code);
    this.#opening = setTimeout(() => core.ended(this), OPENS_WITHIN);
  }

  #begin(token) {
    // Before anything else: a browser lets no page set a header of the handshake.
    if (token !== undefined) {
      this.#ask({ type: "refresh", token }, () => this.#refreshBefore(endOf(token)), (...why) => this.#core.ended(this, ...why));
    }
    this.sync();
  }

  sync() {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const gone = [...this.#seats.keys()].filter((channel) => !this.#core.channels.has(channel));
    for (const sub of this.#subs) {
      if (!this.#core.channels.get(sub.channel)?.has(sub)) this.#subs.delete(sub);
    }
    const wanted = [];
    for (const [channel, subs] of this.#core.channels) {
      const seat = this.#seats.get(channel);
      const added = this.#placed(seat, [...subs]);
      // It wants what the channel has told already: the channel begins again, and the others pass over what they have.
      const isBehind = seat && added.some((sub) => sub.place !== undefined && !covers(sub.place, seat.place));
      if (isBehind) {
        this.#settle(channel);
        gone.push(channel);
      }
      if (!seat || isBehind) wanted.push(channel);
      else if (seat.stands) this.#core.ready(added, seat.place);
      added.forEach((sub) => this.#subs.add(sub));
    }
    this.#unsubscribe(gone);
    const apart = wanted.filter((channel) => this.#alone.has(channel));
    const together = wanted.filter((channel) => !this.#alone.has(channel));
    for (let nth = 0; nth < together.length; nth += CHANNELS_PER_COMMAND) {
      this.#subscribe(together.slice(nth, nth + CHANNELS_PER_COMMAND));
    }
    apart.forEach((channel) => this.#subscribe([channel]));
    this.#becomeLive();
  }

  /** Of a channel's subscriptions those that are to be counted in. */
  #placed(seat, subs) {
    const added = subs.filter((sub) => !this.#subs.has(sub) && !sub.isLocating);
    if (!seat && added.every((sub) => sub.place === undefined)) return added;
    // Who begins now, where others begin elsewhere, has to learn where that is.
    const live = added.filter((sub) => sub.place === undefined);
    if (live.length > 0) this.#locate(live);
    return added.filter((sub) => sub.place !== undefined);
  }

  async #locate(subs) {
    subs.forEach((sub) => (sub.isLocating = true));
    try {
      const id = await this.#core.begin(subs);
      subs.forEach((sub) => (sub.place = id));
    } catch {
      // They then begin wherever the others are.
      subs.forEach((sub) => this.#subs.add(sub));
    }
    subs.forEach((sub) => (sub.isLocating = false));
    this.#core.syncSoon();
  }

  #unsubscribe(channels) {
    if (channels.length === 0) return;
    channels.forEach((channel) => this.#seats.delete(channel));
    // Refused if the subscription was.
    for (const channel of channels) this.#ask({ type: "unsubscribe", channels: [channel] }, () => {}, () => {});
  }

  #subscribe(channels) {
    const seats = channels.map((channel) => {
      const place = oldest(this.#of(channel).map((sub) => sub.place));
      const seat = { channel, place, stands: false };
      this.#seats.set(channel, seat);
      return seat;
    });
    const wanted = seats.map(({ channel, place }) => (place === undefined ? { channel } : { channel, after: place }));
    const mine = () => seats.filter((seat) => this.#seats.get(seat.channel) === seat);
    const stand = ({ channels: told }) => {
      const ids = new Map(told.map(({ channel, id }) => [channel, id]));
      for (const seat of mine()) {
        Object.assign(seat, { stands: true, place: ids.get(seat.channel) });
        this.#core.ready(this.#of(seat.channel), seat.place);
      }
      this.#becomeLive();
    };
    this.#ask({ type: "subscribe", channels: wanted }, stand, (error, delay) => {
      mine().forEach(({ channel }) => this.#seats.delete(channel));
      if (channels.length > 1) {
        // All or nothing: each for itself, and only the one that is refused is.
        channels.forEach((channel) => this.#alone.add(channel));
        this.sync();
      } else if (error.reconnect === "never" && !this.#core.isOfToken(error)) {
        this.#core.refuse(channels[0], error);
      } else {
        this.#core.ended(this, error, delay);
      }
    });
  }

  #of(channel) {
    return [...this.#subs].filter((sub) => sub.channel === channel);
  }

  #becomeLive() {
    const isWhole = [...this.#seats.values()].every((seat) => seat.stands);
    if (isWhole && !this.#opening) this.#core.live(this);
  }

  #ask(command, done, refused) {
    this.#refs += 1;
    this.#asked.set(this.#refs, { done, refused });
    this.#socket.send(JSON.stringify({ ...command, ref: this.#refs }));
  }

  #hear(item) {
    this.#heard = Date.now();
    if (item.type === "message") {
      const seat = this.#seats.get(item.channel);
      if (!seat?.stands) return;
      this.#core.message(messageOf(item));
      if (item.id && !item.value) seat.place = later(seat.place, item.id);
    } else if (item.type === "reset") {
      this.#reset(item);
    } else if (item.type === "hello") {
      this.#greet(item);
    } else if (item.type === "error" && item.ref === undefined) {
      this.#last = { error: errorOf(item), delay: item.delay_ms };
    } else {
      const asked = this.#asked.get(item.ref);
      this.#asked.delete(item.ref);
      if (item.type === "error") asked?.refused(errorOf(item), item.delay_ms);
      else asked?.done(item);
    }
    if (item.type === "alive" || item.type === "pong") this.#advance(item.id);
  }

  #greet({ heartbeat_ms }) {
    clearTimeout(this.#opening);
    this.#opening = undefined;
    this.#heartbeat = heartbeat_ms;
    this.#watch = setInterval(() => {
      if (Date.now() - this.#heard > 2 * this.#heartbeat + PONG_WITHIN) this.#core.ended(this);
    }, this.#heartbeat);
    this.#becomeLive();
  }

  #reset({ channels, reason, id }) {
    const those = channels.filter((channel) => this.#seats.get(channel)?.stands);
    if (those.length > 0) this.#core.reset({ channels: those, reason, id });
    those.forEach((channel) => this.#seats.has(channel) && (this.#seats.get(channel).place = id));
  }

  #advance(id) {
    if (id === undefined) return;
    for (const seat of this.#seats.values()) {
      if (seat.stands) seat.place = id;
    }
  }

  #refreshBefore(end) {
    const left = end - Date.now();
    const delay = left - Math.min(TOKEN_LEFT_AT_REFRESH, left / 4);
    if (!(delay > 0 && delay < TIMER_MAX)) return;
    this.#refresh = setTimeout(async () => {
      // If no other is to be had, this one serves until its end, and the connection then says so.
      const token = await this.#core.freshToken().catch(() => undefined);
      if (token === undefined || this.#socket.readyState !== WebSocket.OPEN) return;
      this.#ask({ type: "refresh", token }, () => this.#refreshBefore(endOf(token)), () => {});
    }, delay);
  }

  publish(publication, done, refused) {
    this.#ask({ type: "publish", ...publication }, done, refused);
  }

  /** Whether there still is somebody. */
  doubt() {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const late = setTimeout(() => this.#core.ended(this), PONG_WITHIN);
    this.#ask({ type: "ping" }, () => clearTimeout(late), () => clearTimeout(late));
  }

  settle() {
    for (const channel of this.#seats.keys()) this.#settle(channel);
  }

  #settle(channel) {
    const seat = this.#seats.get(channel);
    if (seat.stands) this.#of(channel).forEach((sub) => (sub.place = later(sub.place, seat.place)));
  }

  #close(code) {
    const { error, delay } = this.#last;
    this.#core.ended(this, error ?? errorOfClose(code), delay);
  }

  close() {
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    clearTimeout(this.#opening);
    clearTimeout(this.#refresh);
    clearInterval(this.#watch);
    socket.close();
  }
}

/** What reads all channels from one place: a request that is made anew when they change. */
class RequestLine {
  core;
  /** Where all of its subscriptions are. */
  place;
  #subs = new Set();
  #abort = null;
  #watch;
  #isOpen = false;

  constructor(core) {
    this.core = core;
    this.#open();
  }

  sync() {
    const subs = [...this.core.subs];
    const added = subs.filter((sub) => !this.#subs.has(sub));
    const isSame = added.every((sub) => this.#names.has(sub.channel)) && this.#names.size === this.core.channels.size;
    // Who begins now has to learn where that is; who is behind, what it missed.
    const isAhead = (sub) => covers(sub.place, this.place);
    if (!isSame || !added.every(isAhead)) {
      this.settle();
      this.#open();
    } else if (added.length > 0 || subs.length !== this.#subs.size) {
      this.#subs = new Set(subs);
      if (this.#isOpen) this.core.ready(added, this.place);
    }
  }

  get #names() {
    return new Set([...this.#subs].map((sub) => sub.channel));
  }

  async #open() {
    this.#abort?.abort();
    clearTimeout(this.#watch);
    const abort = (this.#abort = new AbortController());
    const { signal } = abort;
    this.#subs = new Set(this.core.subs);
    this.#isOpen = false;
    const channels = [...this.#names];
    if (channels.length > 0) this.watch(OPENS_WITHIN);
    try {
      // The core has to know the line before it hears from it.
      await null;
      if (signal.aborted) return;
      if (channels.length === 0) return this.opened();
      await this.#locate(signal);
      this.place = oldest([...this.#subs].map((sub) => sub.place));
      const delay = await this.read(channels, signal);
      if (!signal.aborted) this.core.ended(this, undefined, delay);
    } catch (failure) {
      if (signal.aborted) return;
      if (!failure.error) return this.core.ended(this, UNREACHABLE);
      if (!(await this.#sift(channels, failure.error, signal))) this.core.ended(this, failure.error, failure.delay);
    }
  }

  /** Finds out where `now` is, for those who begin now beside others who begin elsewhere. */
  async #locate(signal) {
    const live = [...this.#subs].filter((sub) => sub.place === undefined);
    if (live.length === 0 || live.length === this.#subs.size) return;
    const id = await this.core.begin(live, signal);
    live.forEach((sub) => (sub.place = id));
  }

  /** Takes out the channels that are refused by themselves; whether there was one. */
  async #sift(channels, error, signal) {
    if (error.reconnect !== "never" || !OF_CHANNELS.includes(error.code) || this.core.isOfToken(error)) return false;
    const refused = [];
    for (const channel of channels) {
      const after = oldest([...this.#subs].filter((sub) => sub.channel === channel).map((sub) => sub.place));
      try {
        if (channels.length === 1) throw { error };
        this.watch(OPENS_WITHIN);
        await this.core.poll([channel], { after, wait: 0, signal });
      } catch (failure) {
        if (signal.aborted) return true;
        if (failure.error?.reconnect === "never") refused.push([channel, failure.error]);
      }
    }
    refused.forEach(([channel, why]) => this.core.refuse(channel, why));
    return refused.length > 0;
  }

  /** What was subscribed stands. */
  opened() {
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.core.ready(this.#subs, this.place);
    this.core.live(this);
  }

  /** Ends the line if this is not called again within the time. */
  watch(time) {
    clearTimeout(this.#watch);
    // What is called within a handler may have ended it.
    if (!this.#abort.signal.aborted) this.#watch = setTimeout(() => this.core.ended(this), time);
  }

  publish({ channel, id, ...rest }, done, refused) {
    const headers = { "content-type": "application/json", "idempotency-key": id };
    const path = `v1/channels/${encodeURIComponent(channel)}`;
    const asked = this.core.ask(path, { method: "POST", headers, body: JSON.stringify(rest) });
    asked.then((answer) => answer.json()).then(done, ({ error, delay }) => refused(error, delay));
  }

  doubt() {
    if (!this.#isOpen) return;
    this.settle();
    this.#open();
  }

  settle() {
    if (!this.#isOpen) return;
    for (const sub of this.#subs) sub.place = later(sub.place, this.place);
  }

  close() {
    clearTimeout(this.#watch);
    this.#abort?.abort();
  }
}

/** A stream of server-sent events, read by fetch. */
class EventsLine extends RequestLine {
  name = "events";

  async read(channels, signal) {
    const query = channels.map((channel) => ["channel", channel]);
    if (this.place !== undefined) query.push(["last_event_id", this.place]);
    const answer = await this.core.ask("v1/events", { query, signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let farewell;
    const take = blocks((block) => {
      if (signal.aborted) return;
      if (block.retry !== undefined) {
        // At the beginning it is for everybody; at the end it is for this client.
        if (block.isFirst) this.core.delayFirst = block.retry;
        else farewell = block.retry;
      }
      this.#take(block);
    });
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return farewell;
      this.watch(SILENCE_MAX);
      take(value);
    }
  }

  #take({ event, channel, id, encoding, value, data }) {
    if (event === "refused") {
      const error = JSON.parse(data);
      return this.core.ended(this, errorOf(error), error.delay_ms);
    }
    if (event === "reset") this.core.reset({ ...JSON.parse(data), id });
    else if (data !== undefined) this.core.message(messageOf({ channel, id, event, value, [formOf(encoding)]: data }));
    if (event === "reset" || (id !== undefined && !value)) this.place = id;
    this.opened();
  }
}

/** Long-poll. */
class PollLine extends RequestLine {
  name = "poll";

  async read(channels, signal) {
    for (let wait = 0; ; wait = POLL_WAIT) {
      const answer = await this.core.poll(channels, { after: this.place, wait, signal });
      if (signal.aborted) return;
      // Its messages come after the reset, and the id after both.
      if (answer.reset) this.core.reset(answer.reset);
      for (const item of answer.messages) {
        if (signal.aborted) return;
        this.core.message(messageOf(item));
      }
      this.place = answer.id;
      this.opened();
      this.watch(SILENCE_MAX);
    }
  }
}

const LINES = { websocket: SocketLine, events: EventsLine, poll: PollLine };

/** A Core in a SharedWorker. It has the tab's lock while the tab lives, and the tab waits for the worker's. */
class Remote {
  #port;
  #release;
  #watch = new AbortController();

  static async join(settings, subject, token, tell, lost) {
    const { url, transport, credentials, hasToken } = settings;
    const name = `twohop ${JSON.stringify([PORT_VERSION, { url, transport, credentials, hasToken }, subject])}`;
    const lock = `twohop ${randomId()}`;
    const release = await hold(lock);
    try {
      const worker = new SharedWorker(import.meta.url, { type: "module", name });
      const remote = new Remote(worker.port, release);
      await remote.#meet(worker, lock, subject, token, tell, lost);
      return remote;
    } catch (error) {
      release();
      throw error;
    }
  }

  constructor(port, release) {
    this.#port = port;
    this.#release = release;
    for (const method of ["subscribe", "unsubscribe", "publish", "nudge", "reconnect"]) {
      this[method] = (...values) => port.postMessage([method, ...values]);
    }
  }

  #meet(worker, lock, subject, token, tell, lost) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("the worker does not answer")), WORKER_ANSWERS_WITHIN);
      worker.onerror = () => reject(new Error("there is no worker"));
      const leave = () => {
        this.close();
        lost();
      };
      const heard = async (what, keys, value) => {
        if (what === "hello") {
          clearTimeout(late);
          const { signal } = this.#watch;
          navigator.locks.request(value, { signal }, leave).catch(() => {});
          resolve();
        } else if (what === "token") {
          const said = await Promise.resolve().then(token).catch(() => undefined);
          // The connection speaks for one person: whoever speaks for another now has another.
          const isSame = said !== undefined && subjectOf(said) === subject;
          this.#port.postMessage(["answer", keys[0], isSame ? said : undefined]);
          if (said !== undefined && !isSame) leave();
        } else {
          tell(what, keys, value);
        }
      };
      this.#port.onmessage = ({ data }) => heard(...data);
      this.#port.postMessage(["join", lock]);
    });
  }

  close() {
    this.#watch.abort();
    this.#port.onmessage = null;
    this.#port.postMessage(["leave"]);
    this.#port.close();
    this.#release();
  }
}

/** What runs in the SharedWorker: one Core, and the ports of the tabs. Keys are `PORT/KEY` here. */
class Switchboard {
  #core;
  #ports = new Map();
  #count = 0;
  #questions = new Map();
  #state;

  constructor([, settings]) {
    const token = settings.hasToken ? () => this.#askForToken() : undefined;
    this.#core = new Core({ ...settings, token }, (...told) => this.#tell(...told));
    this.lock = `twohop ${randomId()}`;
    this.held = hold(this.lock);
  }

  add(port) {
    const number = (this.#count += 1);
    port.onmessage = ({ data: [method, ...values] }) => this.#hear(number, port, method, values);
  }

  async #hear(number, port, method, values) {
    const [key, ...rest] = values;
    if (method === "join") {
      await this.held;
      this.#ports.set(number, { port, keys: new Set() });
      port.postMessage(["hello", undefined, this.lock]);
      if (this.#state) port.postMessage(this.#state);
      navigator.locks.request(key, () => this.#forget(number));
    } else if (method === "answer") {
      this.#questions.get(key)?.(rest[0]);
    } else if (method === "leave") {
      this.#forget(number);
    } else if (method === "nudge" || method === "reconnect") {
      this.#core[method]();
    } else {
      const { keys } = this.#ports.get(number);
      if (method === "subscribe") keys.add(key);
      if (method === "unsubscribe") keys.delete(key);
      this.#core[method](`${number}/${key}`, ...rest);
    }
  }

  #forget(number) {
    const { keys = [] } = this.#ports.get(number) ?? {};
    this.#ports.delete(number);
    for (const key of keys) this.#core.unsubscribe(`${number}/${key}`);
  }

  #tell(what, keys, value) {
    if (what === "state") this.#state = [what, keys, value];
    for (const [number, { port }] of this.#ports) {
      const prefix = `${number}/`;
      const its = keys?.filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length));
      if (its?.length !== 0) port.postMessage([what, its, value]);
    }
  }

  /** The youngest tab first: it is the least likely to be frozen. */
  async #askForToken() {
    for (const { port } of [...this.#ports.values()].reverse()) {
      const question = randomId();
      const token = await new Promise((resolve) => {
        this.#questions.set(question, resolve);
        setTimeout(resolve, TOKEN_WITHIN);
        port.postMessage(["token", [question]]);
      });
      this.#questions.delete(question);
      if (token !== undefined) return token;
    }
    throw new Error("no tab has one");
  }
}

if (globalThis.SharedWorkerGlobalScope && self.name.startsWith("twohop ")) {
  const switchboard = new Switchboard(JSON.parse(self.name.slice("twohop ".length)));
  self.onconnect = ({ ports: [port] }) => switchboard.add(port);
}

// ── Ids ──

/** Negative, 0 or positive as a place is before, at or after another; NaN if they have no order. */
function compare(place, other) {
  if (place === other) return 0;
  if (place === undefined || other === undefined) return NaN;
  const [epoch, sequence] = place.split(".");
  const [otherEpoch, otherSequence] = other.split(".");
  if (epoch !== otherEpoch || !/^\d+$/.test(sequence) || !/^\d+$/.test(otherSequence)) return NaN;
  return sequence.length - otherSequence.length || (sequence < otherSequence ? -1 : 1);
}

/** Whether who is at a place has what is at an id. */
function covers(place, id) {
  return place !== undefined && compare(place, id) >= 0;
}

function later(place, id) {
  return id === undefined || covers(place, id) ? place : id;
}

/** Of several places, where whoever serves them all has to begin; none if all begin now. */
function oldest(places) {
  return places.reduce((old, place) => (old === undefined || compare(place, old) < 0 ? place : old), undefined);
}

// ── What goes over the wire ──

function messageOf({ channel, id, event = "", value, json, text, base64, raw }) {
  const data = text ?? (base64 !== undefined ? bytesOf(base64) : raw !== undefined ? parsed(raw) : json);
  return { channel, id, event, data, ...(value && { value: true }) };
}

function formOf(encoding) {
  return { base64: "base64", text: "text" }[encoding] ?? "raw";
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0));
}

/** A payload under the name of its form: bytes are base64, all else is JSON. */
function encoded(data) {
  if (data instanceof ArrayBuffer) data = new Uint8Array(data);
  if (!(data instanceof Uint8Array)) return { json: data ?? null };
  let text = "";
  for (const byte of data) text += String.fromCharCode(byte);
  return { base64: btoa(text) };
}

function errorOf({ code, reason, message, reconnect }) {
  return { code, reason, message, reconnect };
}

/** By the class of a close code, where no words came before it. Others of RFC 6455's mean a lost connection. */
function errorOfClose(code) {
  if (!(code >= 4000 && code < 4300)) return undefined;
  const reconnect = code < 4100 ? "never" : code < 4200 ? "later" : "now";
  return { code, message: `the server ended the connection with ${code}`, reconnect };
}

async function refusalOf(answer) {
  const seconds = Number.parseInt(answer.headers.get("retry-after"), 10);
  const delay = seconds > 0 ? seconds * 1_000 * (1 + Math.random() / 2) : undefined;
  const error = (await answer.json().catch(() => undefined))?.error;
  if (error?.code) return { error: errorOf(error), delay: error.delay_ms ?? delay };
  // Something between here and the server.
  const isPassing = answer.status >= 500 || answer.status === 429 || answer.status === 408;
  const message = `the answer was ${answer.status}, and not the server's own`;
  return { error: { message, reconnect: isPassing ? "later" : "never" }, delay };
}

/** The grammar of text/event-stream, for a server that ends its lines with LF. Calls `take` with each whole block. */
function blocks(take) {
  let rest = "";
  let block = { isFirst: true };
  const line = (text) => {
    if (text === "") {
      const whole = block;
      block = {};
      return take(whole);
    }
    const colon = text.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? text : text.slice(0, colon);
    const value = colon < 0 ? "" : text.slice(text[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") block.data = block.data === undefined ? value : `${block.data}\n${value}`;
    else if (name === "retry" && /^\d+$/.test(value)) block.retry = Number(value);
    else if (["event", "channel", "id", "encoding", "value"].includes(name)) block[name] = value;
  };
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    lines.forEach(line);
  };
}

// ── Tokens: JWTs, which are read here and checked by the server ──

function claimsOf(token) {
  try {
    const part = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(bytesOf(part)));
  } catch {
    return {};
  }
}

/** When it ends, in ms since 1970; NaN if it does not say. */
function endOf(token) {
  return Number(claimsOf(token).exp) * 1_000;
}

/** For whom it speaks; undefined if it does not say. */
function subjectOf(token) {
  const { iss = "", sub } = claimsOf(token);
  return sub === undefined ? undefined : JSON.stringify([iss, sub]);
}

// ── The browser ──

/** A worker must be of the page's own origin, and locks need a secure context (https, or this machine). */
function canShare() {
  const isHere = () => new URL(import.meta.url).origin === globalThis.location?.origin;
  return typeof SharedWorker !== "undefined" && globalThis.navigator?.locks !== undefined && isHere();
}

/** Holds a lock until the function that it resolves to is called, or until whoever holds it is gone. */
function hold(name) {
  return new Promise((held) => {
    navigator.locks.request(name, () => new Promise((release) => held(release)));
  });
}

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What a handler throws is the page's own affair, and never costs another handler its message. */
function call(handlers, name, value) {
  try {
    handlers?.[name]?.(value);
  } catch (error) {
    if (globalThis.reportError) reportError(error);
    else console.error(error);
  }
}
