// Routers for Twohop in JavaScript: hides the lists of wit/policy.wit behind changes, rows and routes.
//
// In: a function that gets the settings and answers with the policy. Out: the two exports of a plugin.
// Always: nothing is rounded (an integer is a BigInt, since a column may hold 64 bits); a value is decoded only when it
// is asked for; a column that was not subscribed to is an error. What a policy throws is in the host's log and in the
// fault. Absent on purpose: the other stages.

import { write } from "twohop:policy/log@1.0.0";

const OPERATIONS = ["snapshot", "insert", "update", "delete", "truncate", "schema", "message"];

/** The operations on rows: all but `schema` and `message`. */
export const ROWS = OPERATIONS.slice(0, 5);

/** The value of a column that the source did not send, or that the table does not have. */
export const UNCHANGED = Symbol("unchanged");

/** The value of a column that a filter hid. */
export const MASKED = Symbol("masked");

/** Settings that cannot be: one sentence for the person who deploys. */
export class Refusal extends Error {}

/**
 * Makes a router of a policy: `export const { plugin, router } = defineRouter(configure);`
 *
 * `configure(settings)` is called once in an instance, and answers `{ subscriptions, direct }`:
 * - `subscriptions`: a list of `{ table, source = "", operations = [], columns = [] }` as wit/policy.wit has them, the
 *   operations by their names, none for all of them;
 * - `direct(change, routes)` says where one change goes: the same change always to the same places.
 */
export function defineRouter(configure) {
  let policy = null;
  return {
    plugin: {
      configure: reporting((entries) => {
        const settings = new Settings(entries);
        policy = configure(settings);
        settings.refuseUnknown();
        return policy.subscriptions.map(lowered);
      }),
    },
    router: { direct: reporting((batch) => directed(policy, batch)) },
  };
}

/** The settings of a deployment. One that was given but never asked for is refused. */
class Settings {
  #entries;
  #known = new Set();

  constructor(entries) {
    this.#entries = new Map(entries.map(({ key, value }) => [key, value]));
  }

  /** The value of a setting that may be left out: then undefined. */
  get(key) {
    this.#known.add(key);
    return this.#entries.get(key);
  }

  /** The value of a setting that must be there. */
  required(key) {
    const value = this.get(key);
    if (value !== undefined && value.trim() !== "") return value;
    const unknown = this.#unknown();
    const slip = unknown === undefined ? "" : `, and \`${unknown}\` is not known`;
    throw new Refusal(`the setting \`${key}\` is required${slip}`);
  }

  /** The entries of a setting that must be there, written with commas between them; space around them is cut. */
  list(key) {
    return entriesOf(key, this.required(key));
  }

  /** The entries of a setting that may be left out or empty. */
  optionalList(key) {
    const value = this.get(key) ?? "";
    return value.trim() === "" ? [] : entriesOf(key, value);
  }

  refuseUnknown() {
    const unknown = this.#unknown();
    if (unknown === undefined) return;
    const known = [...this.#known].join("`, `");
    const knows = known === "" ? "has no settings" : `knows \`${known}\``;
    throw new Refusal(`the setting \`${unknown}\` is not known: this plugin ${knows}`);
  }

  #unknown() {
    return [...this.#entries.keys()].find((key) => !this.#known.has(key));
  }
}

function entriesOf(key, value) {
  const entries = value.split(",").map((entry) => entry.trim());
  if (entries.includes("")) throw new Refusal(`the setting \`${key}\` has an empty entry: write \`a, b\``);
  return entries;
}

/** One change. */
class Change {
  #batch;
  #index;
  #columns;

  constructor(batch, index, columns) {
    this.#batch = batch;
    this.#index = index;
    this.#columns = columns;
  }

  /** The place of the subscription that it is here for. */
  get subscription() {
    return this.#batch.lists.subscriptions[this.#index];
  }

  /** What happened: `snapshot`, `insert`, `update`, `delete`, `truncate`, `schema` or `message`. */
  get operation() {
    return OPERATIONS[this.#batch.lists.operations[this.#index]];
  }

  /** When it was committed: microseconds since the Unix epoch, as a BigInt. */
  get committedAt() {
    return this.#batch.lists.committedAt[this.#index];
  }

  /** The row after the change; null for delete, truncate and schema. */
  get row() {
    const operation = this.operation;
    if (operation === "truncate" || operation === "schema") return null;
    return this.#rowAt(this.#batch.lists.rows[this.#index]);
  }

  /** The row before the change; null where the source sent none. */
  get old() {
    return this.#rowAt(this.#batch.lists.oldRows[this.#index]);
  }

  /** The row's key as text, `$key`; null for truncate and schema, and for a table that has none. */
  get key() {
    return this.virtual("$key");
  }

  /** A virtual column: one that says something about the change itself. */
  virtual(column) {
    const { rows, oldRows } = this.#batch.lists;
    const first = rows[this.#index];
    return cell(this.#batch, this.#columns, first === NONE ? oldRows[this.#index] : first, column);
  }

  #rowAt(first) {
    return first === NONE ? null : { get: (column) => cell(this.#batch, this.#columns, first, column) };
  }
}

/** Where the changes of a batch go. */
class Routes {
  #change = 0;
  #committedAt = 0n;
  #changes = [];
  #kinds = [];
  #options = [];
  /** Route and time by turns, for those that have one. */
  #times = [];
  /** Start and length by turns, eight numbers a route, counted in units of UTF-16. */
  #spans = [];
  #text = "";
  /** Place among the spans and bytes by turns. */
  #blobs = [];

  /**
   * A message on a channel.
   * - `event`: what it is about, the event of an SSE frame;
   * - `payload`: `"row"` (the row as JSON, which the host encodes once for all), `"envelope"` (Debezium's), `"nothing"`,
   *   or one of `{ json }`, `{ text }`, `{ bytes }`;
   * - `keep`: `"history"` for those who resume, `"live"` not at all, `"retained"` also as the channel's value for those
   *   who come new, `"forget"` also forgetting that value.
   */
  channel(channel, { event = "", payload = "row", keep = "history" } = {}) {
    this.#message(0, known(KEEP, keep) << 3, channel, event, payload, "");
  }

  /** A post to the author's followers. Again with the same author and item it is an edit. */
  audience(author, item, { payload = "row", at = this.#committedAt } = {}) {
    this.#post(1, author, item, payload, "", at);
  }

  /** A post into the timeline of one user, whoever that user follows. */
  inbox(user, author, item, { payload = "row", at = this.#committedAt } = {}) {
    this.#post(2, author, item, payload, user, at);
  }

  /** Takes a post back from wherever it went. */
  retract(author, item) {
    this.#push(3, 0, author, item, "", "");
  }

  follow(follower, followee) {
    this.#push(4, 0, follower, followee, "", "");
  }

  unfollow(follower, followee) {
    this.#push(5, 0, follower, followee, "", "");
  }

  /** Deletes a key of the cache, or with `prefix` all keys that begin so. */
  cache(key, { prefix = false } = {}) {
    this.#push(6, prefix ? 1 << 5 : 0, key, "", "", "");
  }

  /** A message for other services. */
  topic(topic, { key = "", payload = "row" } = {}) {
    this.#message(7, 0, topic, key, payload, "");
  }

  /** Sets this change aside as a dead letter. Its other routes are not followed. */
  reject(reason) {
    this.#push(8, 0, reason, "", "", "");
  }

  begin(change, committedAt) {
    this.#change = change;
    this.#committedAt = committedAt;
  }

  outcome() {
    const spans = Uint32Array.from(this.#spans);
    const arena = this.#arena(spans);
    const numbers = new BigInt64Array(this.#kinds.length);
    for (const [route, time] of this.#times) numbers[route] = time;
    return {
      changes: Uint32Array.from(this.#changes),
      kinds: Uint8Array.from(this.#kinds),
      options: Uint8Array.from(this.#options),
      spans: new BigUint64Array(spans.buffer),
      numbers,
      attributedRoutes: new Uint32Array(),
      attributes: new BigUint64Array(),
      arena,
    };
  }

  /** Encodes all text at once, and makes byte positions of the spans. */
  #arena(spans) {
    const text = this.#text;
    const encoded = encoder.encode(text);
    if (encoded.length > text.length) inBytes(spans, text);
    if (this.#blobs.length === 0) return encoded;
    const bytes = this.#blobs.reduce((sum, [, blob]) => sum + blob.length, 0);
    const arena = new Uint8Array(encoded.length + bytes);
    arena.set(encoded);
    let used = encoded.length;
    for (const [place, blob] of this.#blobs) {
      arena.set(blob, used);
      spans.set([used, blob.length], place);
      used += blob.length;
    }
    return arena;
  }

  #post(kind, first, second, payload, fourth, time) {
    this.#times.push([this.#kinds.length, time]);
    this.#message(kind, 0, first, second, payload, fourth);
  }

  #message(kind, options, first, second, payload, fourth) {
    if (typeof payload === "string") {
      this.#push(kind, options | known(PAYLOADS, payload), first, second, "", fourth);
      return;
    }
    const [name, body] = Object.entries(payload)[0];
    if (name === "bytes") this.#blobs.push([this.#spans.length + 4, body]);
    this.#push(kind, options | known(PAYLOADS, name), first, second, name === "bytes" ? "" : body, fourth);
  }

  #push(kind, options, first, second, third, fourth) {
    this.#changes.push(this.#change);
    this.#kinds.push(kind);
    this.#options.push(options);
    this.#span(first);
    this.#span(second);
    this.#span(third);
    this.#span(fourth);
  }

  #span(text) {
    if (text === "") {
      this.#spans.push(0, 0);
      return;
    }
    this.#spans.push(this.#text.length, text.length);
    this.#text += text;
  }
}

const NONE = 0xffff_ffff;
const PAYLOADS = ["row", "envelope", "nothing", "json", "text", "bytes"];
const KEEP = ["history", "live", "retained", "forget"];
const encoder = new TextEncoder();
// What begins with a byte order mark keeps it.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** From units of UTF-16 to bytes of UTF-8. The spans come in the order of the text. */
function inBytes(spans, text) {
  let [at, bytes] = [0, 0];
  const reach = (to) => {
    bytes += encoder.encode(text.slice(at, to)).length;
    at = to;
    return bytes;
  };
  for (let place = 0; place < spans.length; place += 2) {
    const length = spans[place + 1];
    if (length === 0) continue;
    const end = spans[place] + length;
    spans[place] = reach(spans[place]);
    spans[place + 1] = reach(end) - spans[place];
  }
}

function known(names, name) {
  const number = names.indexOf(name);
  if (number < 0) throw new Error(`\`${name}\` is none of ${names.join(", ")}`);
  return number;
}

function lowered({ table, source = "", operations = [], columns = [] }) {
  const numbers = operations.map((operation) => known(OPERATIONS, operation));
  return { source, table, operations: Uint8Array.from(numbers), columns };
}

function directed(policy, lists) {
  const { values, arena } = lists;
  const text = decoder.decode(arena);
  const batch = {
    lists,
    // A span is two numbers, an integer or a float one.
    halves: new Uint32Array(values.buffer, values.byteOffset, 2 * values.length),
    integers: new BigInt64Array(values.buffer, values.byteOffset, values.length),
    floats: new Float64Array(values.buffer, values.byteOffset, values.length),
    // Where all is ASCII, bytes and characters have the same places.
    ascii: text.length === arena.length ? text : null,
  };
  const columns = policy.subscriptions.map((subscription) => subscription.columns ?? []);
  const routes = new Routes();
  for (let index = 0; index < lists.operations.length; index++) {
    routes.begin(index, lists.committedAt[index]);
    policy.direct(new Change(batch, index, columns[lists.subscriptions[index]]), routes);
  }
  return routes.outcome();
}

function cell(batch, columns, first, column) {
  const place = columns.indexOf(column);
  if (place < 0) throw new Error(`the subscription does not ask for the column \`${column}\``);
  const at = first + place;
  const start = batch.halves[2 * at];
  const end = start + batch.halves[2 * at + 1];
  const { arena, kinds } = batch.lists;
  switch (kinds[at]) {
    case 0:
      return null;
    case 1:
      return UNCHANGED;
    case 2:
      return MASKED;
    case 3:
      return start === 1;
    case 4:
      return batch.integers[at];
    case 5:
      return batch.floats[at];
    case 6:
      return batch.ascii?.slice(start, end) ?? decoder.decode(arena.subarray(start, end));
    default:
      return arena.slice(start, end);
  }
}

/** An error of `configure` is a refusal; any other is told to the host, which would else see only that we stopped. */
function reporting(call) {
  return (argument) => {
    try {
      return call(argument);
    } catch (error) {
      if (error instanceof Refusal) throw error.message;
      write("error", `${error}\n${error?.stack ?? ""}`);
      throw error;
    }
  };
}
