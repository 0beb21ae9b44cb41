// `row-router` in JavaScript: each change of a configured table goes to the channels `TABLE` and `TABLE:KEY`.
//
// The same policy as plugins/row-router, but for the messages of virtual tables, which it does not take. Its settings and
// messages are in docs/plugins/row-router.md.

import { Refusal, ROWS, defineRouter } from "./twohop.js";

export const { plugin, router } = defineRouter((settings) => {
  // A change comes for the first subscription that it matches: `audit.orders` must stand before `orders`.
  const named = settings.list("tables");
  const tables = [...named.filter((table) => table.includes(".")), ...named.filter((table) => !table.includes("."))];
  const channels = tables.map(channelOf);
  for (const [index, channel] of channels.entries()) {
    const first = channels.indexOf(channel);
    if (first < index) {
      throw new Refusal(
        `the setting \`tables\` names \`${tables[first]}\` and \`${tables[index]}\`, which would share the channel ` +
          `\`${channel}\`: remove one of them`,
      );
    }
  }
  const retained = settings.optionalList("retain");
  const unknown = retained.find((table) => !tables.includes(table));
  if (unknown !== undefined) {
    throw new Refusal(
      `the setting \`retain\` names \`${unknown}\`, which \`tables\` does not: write it the same in both`,
    );
  }
  const isRetained = tables.map((table) => retained.includes(table));
  return {
    subscriptions: tables.map((table) => ({ table, operations: ROWS, columns: ["$key"] })),
    direct(change, routes) {
      const channel = channels[change.subscription];
      const event = change.operation;
      const key = change.key;
      routes.channel(channel, { event });
      if (key === null) return;
      const value = event === "delete" ? "forget" : "retained";
      const keep = isRetained[change.subscription] ? value : "history";
      routes.channel(`${channel}:${key}`, { event, keep });
    },
  };
});

/** The channel of a table: its name, after its schema where the setting gives one other than `public`. */
function channelOf(table) {
  const refuse = (why) => {
    throw new Refusal(`the setting \`tables\` names \`${table}\`: ${why}`);
  };
  if (table === "*" || table.startsWith("$")) refuse("name each table, as `table` or `schema.table`");
  if (table.includes(":")) refuse("a name with `:` cannot be told from the channel of a row");
  const dot = table.indexOf(".");
  if (dot < 0) return table;
  const [schema, name] = [table.slice(0, dot), table.slice(dot + 1)];
  if (schema === "" || name === "") refuse("write `table` or `schema.table`");
  return schema === "public" && !name.includes(".") ? name : table;
}
