// The browser's client in a real browser, on a real server.
//
//   node client.mjs SCENARIO URL [SECRET]
//
// Whoever started it does what it cannot: it prints `do WORDS` and waits for a line, the answer. The scenarios are
// below. Exit code 0 if everything was received as it was published; else 1, with the reasons on stderr.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import process from "node:process";
import { createInterface } from "node:readline";
import { launch } from "./browser.mjs";

const WAIT_MAX = 40_000;
const [scenario, url, secret] = process.argv.slice(2);
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
let published = 0;

async function order(words) {
  console.log(`do ${words}`);
  return (await answers.next()).value;
}

/** So many rows more, one after the other. */
async function publish(count) {
  await order(`insert ${published + 1} ${published + count}`);
  published += count;
}

const upTo = (last, first = 1) => Array.from({ length: last - first + 1 }, (_, nth) => first + nth);

/** A tab of the server's origin that has `follow(name, options, handlers)`, `got` and `states`, each by name. */
async function tab(context, address = `${url}/healthz`) {
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MAX);
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  await page.goto(address);
  await page.evaluate(async (server) => {
    const { connect } = await import(`${server}/twohop.js`);
    Object.assign(window, { got: {}, states: {}, feeds: {} });
    window.follow = (name, options, after) =>
      new Promise((resolve, reject) => {
        const [got, states] = [(window.got[name] = []), (window.states[name] = [])];
        if (options.token) options.token = window[options.token];
        const feed = (window.feeds[name] = connect(options));
        feed.addEventListener("state", ({ detail }) => states.push(detail.state));
        feed.subscribe("notes", {
          after,
          message: ({ id, data }) => got.push(data.number) && (window.lastId = id),
          reset: ({ reason }) => got.push(reason),
          ready: () => resolve({ shared: feed.shared }),
          error: reject,
        });
      });
  }, url);
  return page;
}

/** Waits until a list has so many, and gives it. */
async function received(page, name, count) {
  const has = ([name, count]) => window.got[name].length >= count;
  await page.waitForFunction(has, [name, count]).catch(async (error) => {
    throw new Error(`${name}: ${JSON.stringify(await page.evaluate((name) => [window.got[name], window.states[name]], name))}: ${error.message}`);
  });
  return page.evaluate((name) => window.got[name], name);
}

const SCENARIOS = {
  /** Every way, and a plain EventSource, through a `kill -9`, a network that goes, and a server that ends in order. */
  async faults(context) {
    const page = await tab(context);
    const ways = { websocket: "websocket", events: "events", poll: "poll", shared: "auto" };
    for (const [name, transport] of Object.entries(ways)) {
      const begun = await page.evaluate(
        ([name, transport]) => follow(name, { transport, shared: name === "shared" }),
        [name, transport],
      );
      assert.equal(begun.shared, name === "shared");
    }
    await page.evaluate(
      () =>
        new Promise((resolve) => {
          const source = new EventSource("/v1/events?channel=notes");
          window.got.plain = [];
          source.onopen = resolve;
          source.addEventListener("insert", ({ data }) => window.got.plain.push(JSON.parse(data).number));
        }),
    );
    const names = [...Object.keys(ways), "plain"];
    const allHave = async () => {
      for (const name of names) assert.deepEqual(await received(page, name, published), upTo(published), name);
    };
    await publish(10);
    await allHave();
    const used = await page.evaluate(() => Object.values(feeds).map(({ transport }) => transport));
    assert.deepEqual(used, ["websocket", "events", "poll", "websocket"]);

    await order("kill");
    await publish(10);
    await order("start");
    await publish(5);
    await allHave();

    await context.setOffline(true);
    await publish(10);
    // What a fetch reads is cut, and it has noticed. Chromium leaves a WebSocket open then, which shows that it answers.
    await page.waitForFunction(() => window.states.events.at(-1) !== "live");
    await context.setOffline(false);
    await publish(5);
    await allHave();

    await order("stop");
    await publish(5);
    await order("start");
    await allHave();
    assert.deepEqual(await page.evaluate(() => Object.values(feeds).map(({ state }) => state)), Array(4).fill("live"));
  },

  /** Tokens that last for some seconds: over WebSocket renewed in place, in a stream by coming back. */
  async tokens(context) {
    const token = () => {
      const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
      const signed = `${part({ alg: "HS256" })}.${part({ sub: "7", exp: Math.ceil(Date.now() / 1_000) + 2 })}`;
      return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
    };
    let asked = 0;
    const old = token();
    await context.exposeFunction("fresh", () => (asked += 1) && token());
    await new Promise((resolve) => setTimeout(resolve, 3_100));
    // The first one is too old already.
    let late = 0;
    await context.exposeFunction("late", () => ((late += 1) === 1 ? old : token()));

    // A page of another origin imports the module, and has a connection of its own.
    const other = createServer((_request, response) => response.end("a page")).listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const pages = [await tab(context), await tab(context, `http://127.0.0.1:${other.address().port}/`)];
    const all = [
      [pages[0], "websocket", { token: "fresh", transport: "websocket" }],
      [pages[0], "events", { token: "fresh", transport: "events", shared: false }],
      [pages[0], "late", { token: "late", transport: "websocket", shared: false }],
      [pages[1], "elsewhere", { token: "fresh" }],
      [pages[1], "elsewhere-events", { token: "fresh", transport: "events" }],
    ];
    for (const [page, name, options] of all) {
      const { shared } = await page.evaluate(([name, options]) => follow(name, options), [name, options]);
      assert.equal(shared, name === "websocket", name);
    }
    assert.equal(late, 2);
    const begin = Date.now();
    // Some tokens long.
    while (Date.now() - begin < 7_000) await publish(1);
    for (const [page, name] of all) assert.deepEqual(await received(page, name, published), upTo(published), name);
    const states = await Promise.all(pages.map((page) => page.evaluate(() => window.states)));
    assert.deepEqual([states[0].websocket, states[1].elsewhere], [["connecting", "live"], ["connecting", "live"]]);
    assert.ok(states[0].events.filter((state) => state === "live").length > 2, states[0].events);
    assert.ok(asked > 8, asked);
    other.close();
  },

  /** Tabs that share a connection, and end in every way there is. */
  async tabs(context) {
    // A connection that has ended counts until the server has noticed.
    const streams = async (count) => {
      const end = Date.now() + WAIT_MAX;
      let found = -1;
      while (found !== count && Date.now() < end) found = Number(await order("streams"));
      assert.equal(found, count);
    };
    const pages = [];
    for (let nth = 0; nth < 3; nth += 1) {
      pages.push(await tab(context));
      assert.equal((await pages[nth].evaluate(() => follow("it", {}))).shared, true);
    }
    const [first, second, third] = pages;
    await streams(1);
    await publish(3);
    for (const page of pages) assert.deepEqual(await received(page, "it", 3), upTo(3));
    const id = await third.evaluate(() => lastId);

    // The tab that came first, and made the worker.
    await first.close();
    await publish(3);
    for (const page of [second, third]) assert.deepEqual(await received(page, "it", 6), upTo(6));
    await streams(1);

    // One that crashes says no good-bye, and is missed by nobody.
    const devtools = await context.newCDPSession(second);
    const crashed = second.waitForEvent("crash");
    devtools.send("Page.crash").catch(() => {});
    await crashed;
    await publish(3);
    assert.deepEqual(await received(third, "it", 9), upTo(9));

    // One that comes late begins where it says, beside one that has that already.
    const late = await tab(context);
    assert.equal((await late.evaluate((id) => follow("it", {}, id), id)).shared, true);
    assert.deepEqual(await received(late, "it", 6), upTo(9, 4));
    await streams(1);

    // The worker itself dies, with the connection.
    const whole = await context.browser().newBrowserCDPSession();
    const { targetInfos } = await whole.send("Target.getTargets");
    const { targetId } = targetInfos.find(({ type, url }) => type === "shared_worker" && url.endsWith("/twohop.js"));
    await whole.send("Target.closeTarget", { targetId });
    await publish(6);
    assert.deepEqual(await received(third, "it", 15), upTo(15));
    assert.deepEqual(await received(late, "it", 12), upTo(15, 4));
    await streams(1);
    await late.close();
    await third.evaluate(() => feeds.it.close());
    await streams(0);
  },
};

const faults = [];
const browser = await launch();
try {
  await SCENARIOS[scenario](await browser.newContext());
} catch (error) {
  faults.push(error.stack);
} finally {
  await browser.close();
}
faults.forEach((fault) => console.error(fault));
process.exit(faults.length > 0 ? 1 : 0);
