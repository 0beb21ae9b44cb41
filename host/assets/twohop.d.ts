/** The browser's client of Twohop: docs/client.md. */

/** How the messages come. */
export type Transport = "websocket" | "events" | "poll";

/**
 * - `idle`: nothing is subscribed;
 * - `connecting`;
 * - `live`: all that is subscribed stands;
 * - `waiting`: the connection is lost, and comes back by itself;
 * - `refused`: the server said no for good: `reconnect()` tries again;
 * - `closed`: by `close()`.
 */
export type State = "idle" | "connecting" | "live" | "waiting" | "refused" | "closed";

export interface Options {
  /** Where the server is. Where the module comes from, if it is not given. */
  url?: string | URL;
  /** A token for this user, asked for before a connection, before the last one ends, and after it was refused. */
  token?: () => string | Promise<string>;
  /** `auto`, the default: WebSocket, and what gets through where that does not. */
  transport?: "auto" | Transport;
  /** One connection for all tabs of this origin and user, where the browser can: the default. */
  shared?: boolean;
  /** Of requests to another origin: `include` sends its cookies. */
  credentials?: "same-origin" | "include";
}

export interface Message<Data = unknown> {
  channel: string;
  /** Its place, to resume after; not there for a message that is not kept. */
  id?: string;
  /** Its kind, or an empty text. */
  event: string;
  /** Of a JSON payload its value, of a text the text, of bytes a `Uint8Array`. */
  data: Data;
  /** It is what the channel stands at, told to who comes new, and may be older than what comes next. */
  value?: true;
}

/** Messages of these channels may be missing: load anew what you show of them. Listening goes on by itself. */
export interface Reset {
  channels: string[];
  /** Of docs/protocol.md: `expired`, `epoch`, `ahead`, `shards`, `withheld`, `follows`. */
  reason: string;
  id?: string;
}

export interface Handlers<Data = unknown> {
  /** Each message after `after`, in order, once. */
  message?(message: Message<Data>): void;
  reset?(reset: Reset): void;
  /** The subscription stands, from this id on; once. */
  ready?(from: { id?: string }): void;
  /** The channel is refused, and the subscription over. */
  error?(error: TwohopError): void;
  /** The id of the last message that you have; without it, the subscription begins now. */
  after?: string;
}

export interface StateChange {
  state: State;
  /** Until the next try, in ms, of `waiting`. */
  delay?: number;
  transport?: Transport;
  error?: { code: number; reason: string; message: string };
}

export interface Published {
  /** The message's idempotency key. */
  id: string;
  /** Whether it is kept, or was told to those who are there. */
  kept: boolean;
  receipt?: string;
}

export interface FeedEvents {
  state: CustomEvent<StateChange>;
  reset: CustomEvent<Reset>;
  error: CustomEvent<TwohopError>;
}

/** What a server said no to: see the codes of docs/protocol.md. */
export class TwohopError extends Error {
  constructor(of: { code?: number; reason?: string; message?: string; reconnect?: string; channel?: string });
  /** 0 if no server said it. */
  readonly code: number;
  readonly reason: string;
  readonly reconnect: "never" | "later" | "now";
  /** The channel that was refused, if it was not all. */
  readonly channel?: string;
}

export class Feed extends EventTarget {
  constructor(options?: Options);
  readonly state: State;
  /** While it is live. */
  readonly transport: Transport | undefined;
  /** Whether the connection is one for all tabs. */
  readonly shared: boolean;
  /** Listens to a channel, until the function that it returns is called. */
  subscribe<Data = unknown>(channel: string, handlers: Handlers<Data> | ((message: Message<Data>) => void)): () => void;
  /** Says something on a channel. Bytes go as bytes, all else as JSON. What was not answered is said again, and kept once. */
  publish(channel: string, event: string, data: unknown, options?: { id?: string }): Promise<Published>;
  /** Tries again at once, with another token; also after `refused`. */
  reconnect(): void;
  close(): void;
  addEventListener<Name extends keyof FeedEvents>(
    name: Name,
    listener: (event: FeedEvents[Name]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(name: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
  removeEventListener<Name extends keyof FeedEvents>(
    name: Name,
    listener: (event: FeedEvents[Name]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(name: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

/** A feed of a server's messages. */
export function connect(options?: Options): Feed;
