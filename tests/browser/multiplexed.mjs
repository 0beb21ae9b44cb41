// Opens twenty event streams and a WebSocket over TLS, and looks into the browser's own protocol log: the streams are on
// one connection of HTTP/2, the socket is on one of HTTP/1.1.
//
//   node multiplexed.mjs URL CHANNEL NET-LOG.json
//
// Prints `ready` once all are open, then `seen` once each got a message of the channel. Exit code 0 if it was so, and the
// page had no error; else 1, with the reasons on stderr.

import assert from "node:assert/strict";
import fs from "node:fs";
import process from "node:process";
import { inBrowser } from "./browser.mjs";

const STREAMS = 20;

const [url, channel, log] = process.argv.slice(2);
if (!log) {
  console.error("usage: node multiplexed.mjs URL CHANNEL NET-LOG.json");
  process.exit(1);
}

// The certificate is nobody's but the test's.
const flags = ["--ignore-certificate-errors", `--log-net-log=${log}`];
await inBrowser(url, check, { flags, after: checkLog });

async function check(page) {
  // The page without what it does: it would have a stream of its own.
  await page.route("**/page.js", (route) => route.fulfill({ contentType: "text/javascript", body: "" }));
  await page.goto(url);
  await page.evaluate(open, [channel, STREAMS]);
  console.log("ready");
  await page.evaluate(() => globalThis.told);
  console.log("seen");
}

/** In the page: opens all, and leaves the promise that each gets a message. */
async function open([channel, count]) {
  const opened = [];
  const told = [];
  for (let nth = 0; nth < count; nth += 1) {
    const stream = new EventSource(`/v1/events?channel=${channel}&nth=${nth}`);
    opened.push(new Promise((resolve) => stream.addEventListener("open", resolve)));
    told.push(new Promise((resolve) => stream.addEventListener("insert", resolve)));
  }
  const socket = new WebSocket(`wss://${location.host}/v1/ws`);
  const said = (type) =>
    new Promise((resolve) => {
      socket.addEventListener("message", ({ data }) => JSON.parse(data).type === type && resolve());
    });
  told.push(said("message"));
  const subscribed = said("subscribed");
  socket.addEventListener("open", () =>
    socket.send(JSON.stringify({ type: "subscribe", channels: [{ channel }] })),
  );
  globalThis.told = Promise.all(told).then(() => undefined);
  await Promise.all([...opened, subscribed]);
}

function checkLog() {
  const { constants, events } = JSON.parse(fs.readFileSync(log, "utf8"));
  const of = (type) => events.filter((event) => event.type === constants.logEventTypes[type]);
  const paths = of("HTTP2_SESSION_SEND_HEADERS").map(({ params, source }) => ({
    path: params.headers.find((header) => header.startsWith(":path: "))?.slice(7) ?? "",
    session: source.id,
  }));
  const streams = paths.filter(({ path }) => path.startsWith("/v1/events"));
  assert.equal(streams.length, STREAMS, "each stream is a request of HTTP/2");
  assert.equal(new Set(streams.map(({ session }) => session)).size, 1, "they share a connection");
  assert.equal(paths.filter(({ path }) => path === "/v1/ws").length, 0, "the socket is not on it");
}
