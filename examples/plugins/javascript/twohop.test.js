// The module without a host: `node --test twohop.test.js`.

import assert from "node:assert/strict";
import { register } from "node:module";
import test from "node:test";

// The log, which only a host has, keeps its lines here.
globalThis.lines = [];
const log = "export const write = (level, line) => globalThis.lines.push([level, line]);";
const hooks = `export const resolve = (name, context, next) => name.startsWith("twohop:policy/")
  ? { url: "data:text/javascript,${encodeURIComponent(log)}", shortCircuit: true }
  : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
const { MASKED, Refusal, ROWS, UNCHANGED, defineRouter } = await import("./twohop.js");

const NONE = 0xffff_ffff;
const COLUMNS = ["a", "b", "$key"];

/** A batch of changes, each `{ operation, row, old }` with rows as lists of `[kind, value]`. */
function batch(changes) {
  const [kinds, values, rows, oldRows] = [[], [], [], []];
  let arena = Buffer.alloc(0);
  const lower = (row) => {
    if (row === undefined) return NONE;
    const first = kinds.length;
    for (const [kind, value] of row) {
      kinds.push(kind);
      if (kind < 6) {
        values.push(value);
        continue;
      }
      const bytes = Buffer.from(value);
      values.push(BigInt(arena.length) | (BigInt(bytes.length) << 32n));
      arena = Buffer.concat([arena, bytes]);
    }
    return first;
  };
  for (const { row, old } of changes) {
    rows.push(lower(row));
    oldRows.push(lower(old));
  }
  return {
    subscriptions: new Uint32Array(changes.length),
    operations: Uint8Array.from(changes, ({ operation }) => operation),
    committedAt: BigInt64Array.from(changes, (_, index) => 1_000n + BigInt(index)),
    rows: Uint32Array.from(rows),
    oldRows: Uint32Array.from(oldRows),
    kinds: Uint8Array.from(kinds),
    values: BigUint64Array.from(values),
    arena: new Uint8Array(arena),
  };
}

function direct(changes, directChange) {
  const { plugin, router } = defineRouter(() => ({
    subscriptions: [{ table: "t", columns: COLUMNS }],
    direct: directChange,
  }));
  plugin.configure([]);
  return router.direct(batch(changes));
}

const text = (value) => [6, value];
const insert = (...row) => ({ operation: 1, row });

function spans({ spans, arena }) {
  const cut = (span) => {
    const start = Number(span & 0xffff_ffffn);
    return Buffer.from(arena.subarray(start, start + Number(span >> 32n))).toString();
  };
  return [...spans].map(cut);
}

test("every kind of cell is read as what it is, and exactly", () => {
  const floats = new BigUint64Array(Float64Array.of(1.1).buffer);
  const cells = [
    [[0, 0n], null],
    [[1, 0n], UNCHANGED],
    [[2, 0n], MASKED],
    [[3, 1n], true],
    [[3, 0n], false],
    [[4, 0xffff_ffff_ffff_fffbn], -5n],
    [[4, 0x7fff_ffff_ffff_ffffn], 0x7fff_ffff_ffff_ffffn],
    [[5, floats[0]], 1.1],
    [text("é💡"), "é💡"],
    [text("\ufeffa"), "\ufeffa"],
    [[7, Uint8Array.of(0, 255)], Uint8Array.of(0, 255)],
  ];
  const found = [];
  direct(cells.map(([cell]) => insert(text("é"), cell, text("k"))), (change) => found.push(change.row.get("b")));
  assert.deepEqual(found, cells.map(([, value]) => value));
});

test("a change has the rows that its operation has", () => {
  const [row, old] = [[text("new"), text(""), text("1")], [text("old"), text(""), text("0")]];
  const seen = [];
  direct([{ operation: 2, row, old }, { operation: 3, old }, { operation: 4, row }], (change) =>
    seen.push([change.operation, change.row?.get("a"), change.old?.get("a"), change.key, change.committedAt]),
  );
  assert.deepEqual(seen, [
    ["update", "new", "old", "1", 1_000n],
    ["delete", undefined, "old", "0", 1_001n],
    ["truncate", undefined, undefined, "1", 1_002n],
  ]);
});

test("every kind of route lies in the lists as wit/policy.wit says", () => {
  const outcome = direct([insert(text("a"), text("b"), text("k")), insert(text("a"), text("b"), text("k"))], (change, routes) => {
    if (change.committedAt === 1_000n) return routes.reject("nö");
    routes.channel("c");
    routes.channel("ç", { event: "e", payload: { json: "1" }, keep: "retained" });
    routes.channel("c", { payload: { bytes: Uint8Array.of(104, 105) }, keep: "live" });
    routes.audience("author", "item", { payload: "nothing" });
    routes.inbox("user", "author", "item", { payload: { text: "t" }, at: 5n });
    routes.retract("author", "item");
    routes.follow("follower", "followee");
    routes.unfollow("follower", "followee");
    routes.cache("key");
    routes.cache("key", { prefix: true });
    routes.topic("topic", { key: "k", payload: "envelope" });
  });
  assert.deepEqual([...outcome.changes], [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
  assert.deepEqual([...outcome.kinds], [8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 6, 7]);
  assert.deepEqual([...outcome.options], [0, 0, 3 | (2 << 3), 5 | (1 << 3), 2, 4, 0, 0, 0, 0, 1 << 5, 1]);
  assert.deepEqual([...outcome.numbers], [0n, 0n, 0n, 0n, 1_001n, 5n, 0n, 0n, 0n, 0n, 0n, 0n]);
  assert.deepEqual(spans(outcome), [
    ...["nö", "", "", ""],
    ...["c", "", "", ""],
    ...["ç", "e", "1", ""],
    ...["c", "", "hi", ""],
    ...["author", "item", "", ""],
    ...["author", "item", "t", "user"],
    ...["author", "item", "", ""],
    ...["follower", "followee", "", ""],
    ...["follower", "followee", "", ""],
    ...["key", "", "", ""],
    ...["key", "", "", ""],
    ...["topic", "k", "", ""],
  ]);
});

test("a slip of the pen is an error, and the host is told", () => {
  for (const slip of [
    (change) => change.row.get("c"),
    (change) => change.virtual("$table"),
    (change, routes) => routes.channel("c", { payload: "rows" }),
    (change, routes) => routes.channel("c", { keep: "for ever" }),
  ]) {
    globalThis.lines.length = 0;
    assert.throws(() => direct([insert(text("a"), text("b"), text("k"))], slip), Error);
    assert.equal(globalThis.lines.length, 1);
    assert.equal(globalThis.lines[0][0], "error");
  }
});

test("subscriptions and refusals are as the interface has them", () => {
  const { plugin } = defineRouter((settings) => {
    if (settings.get("refuse") !== undefined) throw new Refusal("no");
    return { subscriptions: [{ table: "t", operations: ROWS, columns: ["a"] }], direct() {} };
  });
  assert.deepEqual(plugin.configure([]), [
    { source: "", table: "t", operations: Uint8Array.of(0, 1, 2, 3, 4), columns: ["a"] },
  ]);
  const thrown = (settings) => {
    try {
      plugin.configure(settings);
    } catch (error) {
      return error;
    }
  };
  assert.equal(thrown([{ key: "refuse", value: "" }]), "no");
  assert.equal(thrown([{ key: "x", value: "" }]), "the setting `x` is not known: this plugin knows `refuse`");
});
