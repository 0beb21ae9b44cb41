// The browser's client without a browser: on a server in memory, which cuts and refuses at will.
//
//   node --test tests/client

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { afterEach, beforeEach, mock, test } from "node:test";
import * as module from "../../host/assets/twohop.js";
import { Server, token, turn, until } from "./server.mjs";

const { connect, TwohopError } = module;
const TRANSPORTS = ["websocket", "events", "poll"];
const FORBIDDEN = { code: 4024, reason: "channel_forbidden", message: "no", reconnect: "never" };

let server;
let feeds = [];
beforeEach(() => {
  server = new Server();
  server.install();
  mock.method(Math, "random", () => 0);
});
afterEach(() => {
  feeds.forEach((feed) => feed.close());
  feeds = [];
  mock.restoreAll();
  mock.timers.reset();
});

function open(options) {
  const feed = connect({ url: "http://server.test/", ...options });
  feeds.push(feed);
  return feed;
}

/** Subscribes, and gives what is handed over: payloads, and resets as their reasons. */
function follow(feed, channel, after) {
  const got = [];
  got.stop = feed.subscribe(channel, {
    after,
    message: ({ data }) => got.push(data),
    reset: ({ reason }) => got.push(reason),
    ready: () => (got.isReady = true),
    error: (error) => (got.error = error),
  });
  return got;
}

/** A generator of numbers that are the same in every run. */
function numbers(seed) {
  let state = seed * 2_654_435_761;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

for (const transport of TRANSPORTS) {
  test(`${transport}: whatever is cut when, each message comes once and in order`, async () => {
    for (let seed = 1; seed <= 40; seed += 1) {
      server = new Server();
      server.install();
      const upTo = numbers(seed);
      const feed = open({ transport });
      const [a, b] = [follow(feed, "a"), follow(feed, "b")];
      await until(() => a.isReady && b.isReady);
      const expected = { a: [], b: [], late: [] };
      let late;
      for (let nth = 1; nth <= 30; nth += 1) {
        const channel = upTo(3) === 0 ? "b" : "a";
        server.publish(channel, nth);
        expected[channel].push(nth);
        if (late && channel === "a") expected.late.push(nth);
        for (let turns = upTo(12); turns > 0; turns -= 1) await turn();
        if (upTo(5) === 0) server.cut();
        if (upTo(9) === 0) follow(feed, `other${nth}`);
        if (nth === 15) late = follow(feed, "a", server.id);
      }
      await until(() => a.length + b.length + late.length >= 30 + expected.late.length, `seed ${seed}`);
      for (let turns = 0; turns < 20; turns += 1) await turn();
      assert.deepEqual([[...a], [...b], [...late]], [expected.a, expected.b, expected.late], `seed ${seed}`);
      feed.close();
    }
  });

  test(`${transport}: subscriptions with different places share a connection, and each gets what comes after its own`, async () => {
    const ids = [1, 2, 3, 4].map((nth) => (server.publish("a", nth), server.id));
    const feed = open({ transport });
    const third = follow(feed, "a", ids[2]);
    await until(() => third.length === 1);
    const [first, live, other] = [follow(feed, "a", ids[0]), follow(feed, "a"), follow(feed, "b", ids[1])];
    await until(() => live.isReady && other.isReady && first.length === 3);
    server.publish("a", 5);
    server.publish("b", 6);
    await until(() => live.length === 1 && other.length === 1 && first.length === 4 && third.length === 2);
    assert.deepEqual([[...first], [...third], [...live], [...other]], [[2, 3, 4, 5], [4, 5], [5], [6]]);
    await until(() => server.count === 1);
  });

  test(`${transport}: the place moves after the handler was called, even if it throws or begins anew`, async () => {
    const errors = [];
    mock.method(console, "error", (error) => errors.push(error.message));
    const feed = open({ transport });
    const got = [];
    feed.subscribe("a", {
      message({ data }) {
        got.push(data);
        if (data === 1) throw new Error("the page's own");
        if (data === 2) feed.reconnect();
      },
      ready: () => (got.isReady = true),
    });
    await until(() => got.isReady);
    for (const nth of [1, 2, 3]) server.publish("a", nth);
    await until(() => got.length >= 3);
    for (let turns = 0; turns < 20; turns += 1) await turn();
    assert.deepEqual([...got], [1, 2, 3]);
    assert.deepEqual(errors, ["the page's own"]);
  });

  test(`${transport}: one channel that is refused does not cost the others theirs`, async () => {
    server.refuse = (url) => url.searchParams.getAll("channel").includes("secret") && { status: 403, error: FORBIDDEN };
    server.refuseCommand = (command) => JSON.stringify(command.channels ?? []).includes("secret") && FORBIDDEN;
    const feed = open({ transport });
    const said = [];
    feed.addEventListener("error", ({ detail }) => said.push(detail));
    const [a, secret, b] = ["a", "secret", "b"].map((channel) => follow(feed, channel));
    await until(() => a.isReady && b.isReady && feed.state === "live");
    server.publish("b", 1);
    await until(() => b.length === 1);
    assert.ok(secret.error instanceof TwohopError);
    assert.deepEqual([secret.error.code, secret.error.channel, secret.error.reconnect], [4024, "secret", "never"]);
    assert.deepEqual(said, [secret.error]);
    assert.equal(a.error ?? b.error, undefined);
  });

  test(`${transport}: without a subscription there is no connection`, async () => {
    const feed = open({ transport });
    assert.equal(feed.state, "idle");
    const a = follow(feed, "a");
    await until(() => feed.state === "live" && server.count === 1);
    assert.equal(feed.transport, transport);
    a.stop();
    await until(() => feed.state === "idle");
    await until(() => server.count === 0);
    feed.close();
    assert.equal(feed.state, "closed");
  });

  test(`${transport}: a token that is refused is asked for again, and one that stays the same is given up`, async () => {
    const tokens = ["old", "new"].map((jti) => token({ sub: "ann", exp: Date.now() / 1_000 + 600, jti }));
    const expired = { code: 4022, reason: "token_expired", message: "", reconnect: "never" };
    const isOld = (used) => used === tokens[0];
    server.refuse = (_url, used) => isOld(used) && { status: 401, error: expired };
    server.refuseCommand = (command) => isOld(command.token) && expired;
    const given = [...tokens];
    const feed = open({ transport, token: async () => (given.length > 1 ? given.shift() : given[0]) });
    const a = follow(feed, "a");
    await until(() => a.isReady);
    assert.equal(given.length, 1);
    assert.ok(!server.asked.some((line) => line.includes("?") && tokens.some((used) => line.includes(used))));

    given[0] = tokens[0];
    feed.reconnect();
    await until(() => feed.state === "refused");
    const asked = server.asked.length;
    for (let turns = 0; turns < 50; turns += 1) await turn();
    assert.equal(server.asked.length, asked, "it has given up");
    given[0] = tokens[1];
    feed.reconnect();
    await until(() => feed.state === "live");
  });

  test(`${transport}: what was said and not answered is said again under the same id, once it can be`, async () => {
    mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
    const feed = open({ transport });
    server.isAway = true;
    const saying = feed.publish("room 7", "said", { text: "hi" }, { id: "k1" });
    await until(() => server.asked.length === 1);
    for (let turns = 0; turns < 5; turns += 1) await turn();
    server.isAway = false;
    mock.timers.tick(1_000);
    assert.deepEqual(await saying, { id: "k1", kept: true, receipt: "1" });
    server.published.forEach((spoken) => delete spoken.type);
    assert.deepEqual(server.published, [{ channel: "room 7", event: "said", id: "k1", json: { text: "hi" } }]);
    await until(() => feed.state === "idle");
    const bytes = await feed.publish("room 7", "", new Uint8Array([0, 255]));
    assert.match(bytes.id, /^[0-9a-f]{32}$/);
    assert.equal(server.published[1].base64, "AP8=");
    assert.ok(!("event" in server.published[1]));
  });
}

test("an answer that a cut has swallowed is asked for again, under the same id", async () => {
  const feed = open({ transport: "websocket" });
  follow(feed, "a");
  await until(() => feed.state === "live");
  const saying = feed.publish("a", "said", 1);
  await until(() => server.published.length === 1);
  server.cut();
  await saying;
  assert.equal(server.published.length, 2);
  assert.equal(server.published[0].id, server.published[1].id);
});

test("a refusal of what was said comes back to who said it; one for now is tried again", async () => {
  const feed = open({ transport: "websocket" });
  const refusals = [{ code: 4122, reason: "messages_too_many", reconnect: "later", delay_ms: 1 }, FORBIDDEN];
  server.refuseCommand = ({ type }) => (type === "publish" ? refusals.shift() : undefined);
  await assert.rejects(feed.publish("a", "said", 1), { name: "TwohopError", code: 4024 });
  assert.equal(refusals.length, 0);
  server.refuseCommand = ({ type }) => (type === "publish" ? "later" : undefined);
  const saying = feed.publish("a", "said", 1);
  feed.close();
  await assert.rejects(saying, { code: 0 });
  await assert.rejects(feed.publish("a", "said", 1), { message: "the feed is closed" });
});

test("a reset is told with its reason and channels, and all goes on from its id", async () => {
  const feed = open({ transport: "websocket" });
  const told = [];
  feed.addEventListener("reset", ({ detail }) => told.push(detail));
  const [a, b] = [follow(feed, "a", "e1.0"), follow(feed, "b")];
  await until(() => a.isReady && b.isReady);
  const reset = { channels: ["a"], reason: "expired", id: "e1.7" };
  const [socket] = server.sockets;
  socket.say({ type: "reset", ...reset });
  await until(() => a.length === 1);
  assert.deepEqual([[...a], [...b], told], [["expired"], [], [reset]]);
  server.sequence = 7;
  server.cut();
  await until(() => server.sockets.size === 1 && feed.state === "live");
  assert.ok(server.asked.at(-1).includes('{"channel":"a","after":"e1.7"}'), server.asked.at(-1));
  // The history was set back: what came before counts no longer.
  [...server.sockets][0].say({ type: "reset", channels: ["a"], reason: "ahead", id: "e1.2" });
  [...server.sockets][0].say({ type: "message", channel: "a", id: "e1.3", json: "again" });
  await until(() => a.length === 3);
  assert.deepEqual([...a], ["expired", "ahead", "again"]);
});

test("a reset of a long-poll comes before the messages beside it", async () => {
  const feed = open({ transport: "poll" });
  const a = follow(feed, "a", "e0.9");
  server.refuse = ({ searchParams }) => {
    if (searchParams.get("after") !== "e0.9") return undefined;
    const messages = [{ type: "message", channel: "a", id: "e1.1", json: 1 }];
    return { status: 200, body: { reset: { channels: ["a"], reason: "epoch" }, messages, id: "e1.2" } };
  };
  server.sequence = 2;
  await until(() => a.length === 2);
  server.publish("a", 3);
  await until(() => a.length === 3);
  assert.deepEqual([...a], ["epoch", 1, 3]);
});

test("a heartbeat moves the place of quiet channels, over WebSocket and in a stream", async () => {
  const feed = open({ transport: "websocket" });
  const a = follow(feed, "a");
  await until(() => a.isReady);
  [...server.sockets][0].say({ type: "alive", id: "e1.5" });
  for (let turns = 0; turns < 5; turns += 1) await turn();
  server.sequence = 5;
  server.cut();
  await until(() => server.sockets.size === 1);
  await until(() => server.asked.at(-1).includes('"after":"e1.5"'));
  feed.close();

  const stream = open({ transport: "events" });
  const b = follow(stream, "b");
  await until(() => b.isReady);
  [...server.streams][0].say(":\nid: e1.9\n\n");
  for (let turns = 0; turns < 5; turns += 1) await turn();
  server.cut();
  await until(() => server.streams.size === 1);
  assert.equal(server.asked.at(-1), "GET /v1/events?channel=b&last_event_id=e1.9");
});

test("after an unsubscription nothing comes, and a new subscription does not get what the old one missed", async () => {
  const feed = open({ transport: "websocket" });
  const other = follow(feed, "other");
  const first = follow(feed, "a");
  await until(() => first.isReady && other.isReady);
  server.publish("a", 1);
  first.stop();
  const second = follow(feed, "a");
  await until(() => second.isReady);
  server.publish("a", 2);
  await until(() => second.length > 0);
  assert.deepEqual([[...first], [...second]], [[], [2]]);
});

test("what is on its way while a channel begins again is not taken for what comes next", async () => {
  const ids = [1, 2, 3].map((nth) => (server.publish("a", nth), server.id));
  const feed = open({ transport: "websocket" });
  const first = follow(feed, "a", ids[2]);
  await until(() => first.isReady);
  const late = follow(feed, "a", ids[0]);
  await Promise.resolve();
  server.publish("a", 4);
  server.publish("a", 5);
  await until(() => late.length === 4 && first.length === 2);
  assert.deepEqual([[...first], [...late]], [[4, 5], [2, 3, 4, 5]]);
});

test("a channel's value is for those who are new to it, and no place", async () => {
  const feed = open({ transport: "websocket" });
  const a = follow(feed, "a");
  await until(() => a.isReady);
  server.publish("a", 1);
  await until(() => a.length === 1);
  const value = { type: "message", channel: "a", id: "e1.0", value: true, json: "value" };
  server.refuse = () => ({ status: 200, body: { messages: [value], id: "e1.1" } });
  const late = follow(feed, "a");
  await until(() => late.length === 1);
  [...server.sockets][0].say(value);
  for (let turns = 0; turns < 5; turns += 1) await turn();
  server.publish("a", 2);
  await until(() => a.length === 2);
  assert.deepEqual([[...a], [...late]], [[1, 2], ["value", 2]]);
});

test("payloads are values, texts or bytes, whichever way they come", async () => {
  const feed = open({ transport: "websocket" });
  const a = follow(feed, "a");
  await until(() => a.isReady);
  const [socket] = server.sockets;
  for (const payload of [{ json: { n: 1 } }, { json: null }, { text: "42" }, { base64: "AP8=" }]) {
    socket.say({ type: "message", channel: "a", ...payload });
  }
  await until(() => a.length === 4);
  const stream = open({ transport: "events" });
  const b = follow(stream, "a");
  await until(() => b.isReady);
  [...server.streams][0].say(
    'channel: a\ndata: {"n":1}\n\nchannel: a\ndata: null\n\nchannel: a\nencoding: text\ndata: 42\n\nchannel: a\nencoding: base64\ndata: AP8=\n\n',
  );
  await until(() => b.length === 4);
  assert.deepEqual([...a], [{ n: 1 }, null, "42", new Uint8Array([0, 255])]);
  assert.deepEqual([...b], [...a]);
});

test("each code is obeyed: never, later, at once, and a delay of the server's", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  const states = [];
  const feed = open({ transport: "websocket" });
  feed.addEventListener("state", ({ detail }) => states.push(detail));
  follow(feed, "a");
  const ending = async (error) => {
    await until(() => feed.state === "live");
    mock.timers.tick(10_000);
    [...server.sockets][0].dismiss(error);
    await until(() => feed.state !== "live");
    const { state, delay } = states.at(-1);
    if (delay > 0) {
      mock.timers.tick(delay - 1);
      assert.equal(feed.state, "waiting");
    }
    mock.timers.tick(1);
    return [state, delay];
  };
  assert.deepEqual(await ending({ code: 4200, reason: "shutting_down", reconnect: "now", delay_ms: 1_234 }), ["waiting", 1_234]);
  assert.deepEqual(await ending({ code: 4101, reason: "history_unavailable", reconnect: "later" }), ["waiting", 1_000]);
  assert.deepEqual(await ending({ code: 4200, reason: "shutting_down", reconnect: "now" }), ["waiting", 0]);
  assert.deepEqual(await ending({ code: 4024, reason: "channel_forbidden", reconnect: "never" }), ["refused", undefined]);
  mock.timers.tick(3_600_000);
  await turn();
  assert.equal(feed.state, "refused");
});

test("a token that expires between two commands costs no subscription", async () => {
  const expired = { code: 4022, reason: "token_expired", reconnect: "never" };
  const feed = open({ transport: "websocket", token: async () => token({ sub: "ann", jti: server.asked.length }) });
  const a = follow(feed, "a");
  await until(() => a.isReady);
  let isOver = true;
  server.refuseCommand = ({ type }) => isOver && type === "subscribe" && !(isOver = false) && expired;
  const b = follow(feed, "b");
  await until(() => b.isReady);
  assert.equal(b.error, undefined);
  assert.equal(server.asked.filter((line) => line.startsWith("socket")).length, 2);
});

test("Retry-After and the stream's own retry are obeyed", async () => {
  const feed = open({ transport: "events" });
  const states = [];
  feed.addEventListener("state", ({ detail }) => states.push(detail));
  const overloaded = { code: 4100, reason: "overloaded", message: "", reconnect: "later" };
  let refusals = [{ status: 503, headers: { "retry-after": "7" }, error: overloaded }];
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  server.refuse = () => refusals.shift();
  const a = follow(feed, "a");
  await until(() => feed.state === "waiting");
  assert.equal(states.at(-1).delay, 7_000);
  mock.timers.tick(7_000);
  await until(() => a.isReady);
  const [stream] = server.streams;
  stream.say("retry: 321\n\n");
  stream.end();
  await until(() => feed.state === "waiting");
  assert.equal(states.at(-1).delay, 321);
  const stopping = { code: 4200, reason: "shutting_down", message: "", reconnect: "now", delay_ms: 1_234 };
  refusals = [{ status: 503, headers: { "retry-after": "2" }, error: stopping }];
  mock.timers.tick(321);
  await until(() => states.at(-1).state === "waiting" && refusals.length === 0);
  assert.equal(states.at(-1).delay, 1_234);
  // What a proxy says, in words of its own.
  refusals = [{ status: 502, body: "bad gateway" }];
  mock.timers.tick(1_234);
  await until(() => states.at(-1).state === "waiting" && refusals.length === 0);
  refusals = [{ status: 404, body: "not here" }];
  mock.timers.tick(60_000);
  await until(() => feed.state === "refused");
});

test("delays are drawn from nothing up to a bound that doubles to half a minute, and begin anew after a good while", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  Math.random.mock.mockImplementation(() => 1);
  const feed = open({ transport: "websocket" });
  const delays = [];
  feed.addEventListener("state", ({ detail }) => detail.state === "waiting" && delays.push(detail.delay));
  server.isAway = true;
  follow(feed, "a");
  for (let tries = 1; tries <= 8; tries += 1) {
    await until(() => delays.length === tries);
    if (tries < 8) mock.timers.tick(delays.at(-1));
  }
  assert.deepEqual(delays, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  server.isAway = false;
  mock.timers.tick(30_000);
  await until(() => feed.state === "live");
  mock.timers.tick(6_000);
  server.cut();
  assert.equal(delays.at(-1), 1_000);
});

test("a token is renewed before it ends, on the connection that is there", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_000_000_000_000 });
  let count = 0;
  const claims = () => ({ sub: "ann", exp: Math.round(Date.now() / 1_000) + 600, jti: (count += 1) });
  const feed = open({ transport: "websocket", token: async () => token(claims()) });
  const a = follow(feed, "a");
  await until(() => a.isReady);
  const refreshes = () => server.asked.filter((line) => line.includes('"refresh"')).length;
  const pass = async (seconds) => {
    for (let second = 0; second < seconds; second += 10) {
      mock.timers.tick(10_000);
      [...server.sockets][0].say({ type: "alive", id: server.id });
      for (let turns = 0; turns < 5; turns += 1) await turn();
    }
  };
  for (const renewals of [1, 2]) {
    await pass(560);
    assert.equal(refreshes(), renewals);
    await pass(10);
    assert.equal(refreshes(), renewals + 1);
  }
  assert.equal(server.asked.filter((line) => line.startsWith("socket")).length, 1);
});

test("a connection from which nothing comes is dead, and so is one that does not answer when the network changes", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  Math.random.mock.mockImplementation(() => 0.5);
  const listeners = mock.fn();
  globalThis.addEventListener = listeners;
  const feed = open({ transport: "websocket" });
  delete globalThis.addEventListener;
  const change = (type) => listeners.mock.calls.forEach(({ arguments: [of, listener] }) => of === type && listener({ type }));
  const a = follow(feed, "a");
  await until(() => a.isReady);
  mock.timers.tick(30_000);
  assert.equal(feed.state, "live");
  mock.timers.tick(15_000);
  assert.equal(feed.state, "waiting");
  change("online");
  await until(() => feed.state === "live");
  change("offline");
  for (let turns = 0; turns < 5; turns += 1) await turn();
  mock.timers.tick(5_000);
  assert.equal(feed.state, "live", "it has answered");
  [...server.sockets][0].send = () => {};
  change("offline");
  mock.timers.tick(4_999);
  assert.equal(feed.state, "live");
  mock.timers.tick(1);
  assert.equal(feed.state, "waiting");
  const stream = open({ transport: "events" });
  const b = follow(stream, "b");
  await until(() => b.isReady);
  mock.timers.tick(50_000);
  assert.notEqual(stream.state, "live");
});

test("auto takes what gets through, and tries WebSocket first when it comes back", async () => {
  server.hasSockets = false;
  const feed = open();
  const a = follow(feed, "a");
  await until(() => a.isReady);
  assert.equal(feed.transport, "events");
  server.hasSockets = true;
  server.cut();
  await until(() => feed.transport === "websocket");
  // Where WebSocket works, a server that is away is no reason for less.
  server.isAway = true;
  server.asked = [];
  server.cut();
  await until(() => server.asked.length === 2);
  server.isAway = false;
  await until(() => feed.state === "live");
  assert.equal(feed.transport, "websocket");
});

test("auto falls back to long-poll where a stream is held back", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  server.hasSockets = false;
  const usual = globalThis.fetch;
  globalThis.fetch = (url, options) =>
    url.pathname === "/v1/events" ? new Response(new ReadableStream()) : usual(url, options);
  const feed = open();
  const a = follow(feed, "a");
  for (let turns = 0; turns < 20; turns += 1) await turn();
  mock.timers.tick(10_000);
  await until(() => a.isReady);
  assert.equal(feed.transport, "poll");
});

test("what is no transport, no channel and no handler is said so", () => {
  assert.throws(() => open({ transport: "pigeon" }), TypeError);
  assert.throws(() => open().subscribe("", {}), TypeError);
});

test("every exported name is in the types, and every type that is a value is exported", async () => {
  const types = await readFile(new URL("../../host/assets/twohop.d.ts", import.meta.url), "utf8");
  const declared = [...types.matchAll(/^export (?:declare )?(?:class|function|const) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(declared.sort(), Object.keys(module).sort());
  const members = (text) => [...text.matchAll(/^ {2}(?:readonly |get )?(\w+)(?:<[^(]*>)?[(:?]/gm)].map(([, name]) => name);
  const classOf = types.slice(types.indexOf("export class Feed"), types.indexOf("/** A feed of a server"));
  const own = Object.getOwnPropertyNames(module.Feed.prototype);
  const inherited = ["addEventListener", "removeEventListener"];
  assert.deepEqual([...new Set(members(classOf))].sort(), [...own, ...inherited].sort());
});
