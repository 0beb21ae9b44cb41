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
/** A whole scenario: what a page evaluates has no bound of its own. */
const SCENARIO_MAX = 240_000;
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

/** A token that lives for so many seconds. */
function token(seconds) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256" })}.${part({ sub: "7", exp: Math.ceil(Date.now() / 1_000) + seconds })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

const upTo = (last, first = 1) => Array.from({ length: last - first + 1 }, (_, nth) => first + nth);

/** A tab of the server's origin that has `follow(name, options, after, channel)`, and by name `got`, the numbers and resets,
 * `all`, the messages, `typed`, how many were typing, and `states`. */
async function tab(context, address = `${url}/healthz`) {
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MAX);
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  await page.goto(address);
  await page.evaluate(async (server) => {
    const { connect } = await import(`${server}/twohop.js`);
    Object.assign(window, { got: {}, all: {}, typed: {}, states: {}, feeds: {} });
    window.follow = (name, options, after, channel = "notes") =>
      new Promise((resolve, reject) => {
        const [got, all, states] = [window.got, window.all, window.states].map((of) => (of[name] = []));
        if (options.token) options.token = window[options.token];
        const feed = (window.feeds[name] = connect(options));
        feed.addEventListener("state", ({ detail }) => states.push(detail.state));
        feed.subscribe(channel, {
          after,
          message(message) {
            if (message.event === "typing") return void (window.typed[name] = (window.typed[name] ?? 0) + 1);
            all.push(message);
            got.push(message.data.number);
            window.lastId = message.id;
          },
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

  /** What is said on every way, also while the server is away, comes to everybody once; and what is ephemeral is told. */
  async said(context) {
    await context.exposeFunction("fresh", () => token(600));
    const page = await tab(context);
    const ways = { websocket: "websocket", events: "events", poll: "poll", shared: "auto" };
    const names = Object.keys(ways);
    for (const name of names) {
      const options = { token: "fresh", transport: ways[name], shared: name === "shared" };
      await page.evaluate(([name, options]) => follow(name, options, undefined, "room:1"), [name, options]);
    }
    const say = (name, number, event = "said") =>
      page.evaluate(([name, number, event]) => feeds[name].publish("room:1", event, { number }), [name, number, event]);
    let said = 0;
    const allHave = async () => {
      for (const name of names) assert.deepEqual(await received(page, name, said), upTo(said), name);
    };
    for (const name of names) {
      const { id, kept, receipt } = await say(name, (said += 1));
      assert.ok(kept && receipt && /^[0-9a-f]{32}$/.test(id), JSON.stringify({ id, kept, receipt }));
    }
    await allHave();
    const again = await page.evaluate(() => feeds.events.publish("room:1", "said", { number: 5 }, { id: "mine" }));
    said += 1;
    assert.deepEqual(await page.evaluate(() => feeds.poll.publish("room:1", "said", { number: 5 }, { id: "mine" })), again);
    const refused = await page.evaluate(() => feeds.shared.publish("notes:1", "said", 1).catch(({ code }) => code));
    assert.equal(refused, 4024);
    const typing = await say("websocket", 0, "typing");
    assert.deepEqual([typing.kept, typing.receipt], [false, undefined]);
    await page.waitForFunction(() => window.typed.websocket === 1 && window.typed.events === 1);

    await order("kill");
    const waiting = names.map((name) => say(name, (said += 1)));
    await order("start");
    for (const { kept } of await Promise.all(waiting)) assert.ok(kept);
    // Who comes back first is not said.
    for (const name of names) {
      const all = await received(page, name, said);
      assert.deepEqual(all.toSorted((a, b) => a - b), upTo(said), name);
      assert.deepEqual(all, await received(page, "websocket", said), "all see one order");
    }
  },

  /** What a channel stands at is told to who comes new, once, and to nobody who has it. */
  async values(context) {
    await publish(1);
    const page = await tab(context);
    const ways = { websocket: "websocket", events: "events", poll: "poll", shared: "auto" };
    const open = (name, as = name) =>
      page.evaluate(([name, options]) => follow(name, options, undefined, "notes:1"), [
        as,
        { transport: ways[name], shared: name === "shared" },
      ]);
    const texts = async (name, count) => {
      const has = ([name, count]) => window.all[name].length >= count;
      await page.waitForFunction(has, [name, count]);
      return page.evaluate((name) => window.all[name].map(({ data, value }) => `${value === true} ${data.body}`), name);
    };
    for (const name of Object.keys(ways)) {
      await open(name);
      assert.deepEqual(await texts(name, 1), ["true x"], name);
    }
    await order("say here");
    for (const name of Object.keys(ways)) assert.deepEqual(await texts(name, 2), ["true x", "false here"], name);
    // A second one on the connection of the first.
    await open("shared", "late");
    assert.deepEqual(await texts("late", 1), ["true here"]);
    await order("kill");
    await order("start");
    await order("say there");
    for (const name of [...Object.keys(ways)]) {
      assert.deepEqual(await texts(name, 3), ["true x", "false here", "false there"], name);
    }
    assert.deepEqual(await texts("late", 2), ["true here", "false there"]);
  },

  /** Tokens that last for some seconds: over WebSocket renewed in place, in a stream by coming back. */
  async tokens(context) {
    let asked = 0;
    const old = token(2);
    await context.exposeFunction("fresh", () => (asked += 1) && token(2));
    await new Promise((resolve) => setTimeout(resolve, 3_100));
    // The first one is too old already.
    let late = 0;
    await context.exposeFunction("late", () => ((late += 1) === 1 ? old : token(2)));

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
  const over = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`${scenario} did not end within ${SCENARIO_MAX} ms`)), SCENARIO_MAX);
  });
  await Promise.race([SCENARIOS[scenario](await browser.newContext()), over]);
} catch (error) {
  faults.push(error.stack);
} finally {
  await browser.close();
}
faults.forEach((fault) => console.error(fault));
process.exit(faults.length > 0 ? 1 : 0);
