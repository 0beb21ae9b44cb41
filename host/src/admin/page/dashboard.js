// The dashboard: asks for the token, then shows what the server says, live.
//
// Whatever comes from the server may have been written by a plugin: it becomes text, never markup.

import { Refused, Server } from "./server.js";

const KEY = "twohop-admin-token";
const ROWS_MAX = 200;
const SHADOWS_EVERY = 5_000;

const part = (id) => document.getElementById(id);
let abort = null;
let counters = {};

part("door").addEventListener("submit", (event) => {
  event.preventDefault();
  open(part("token").value.trim());
});
part("forget").addEventListener("click", () => close(""));
const kept = sessionStorage.getItem(KEY);
if (kept) open(kept);

/** Tries the token; the board is there once it is right. */
async function open(token) {
  const server = new Server(token);
  try {
    await showPlugins(server);
  } catch (error) {
    close(error.message);
    return;
  }
  sessionStorage.setItem(KEY, token);
  part("token").value = "";
  part("door").hidden = true;
  part("board").hidden = false;
  part("forget").hidden = false;
  abort?.abort();
  abort = new AbortController();
  const { signal } = abort;
  const timer = setInterval(() => refresh(server), SHADOWS_EVERY);
  signal.addEventListener("abort", () => clearInterval(timer));
  try {
    await Promise.all([
      showRecent(server),
      server.follow("/v1/events", signal, (name, data) => take(server, name, data), showState),
    ]);
  } catch (error) {
    if (error instanceof Refused) close(error.message);
    else part("plugins-note").textContent = error.message;
  }
}

function close(why) {
  abort?.abort();
  abort = null;
  sessionStorage.removeItem(KEY);
  part("door").hidden = false;
  part("board").hidden = true;
  part("forget").hidden = true;
  part("door-note").textContent = why;
  showState(null);
}

function showState(connected) {
  const state = part("state");
  // Another life of the server counts its lines anew.
  if (connected && state.dataset.state === "waiting") part("lines").replaceChildren();
  state.dataset.state = connected === null ? "off" : connected ? "live" : "waiting";
  state.textContent = connected === null ? "Not connected" : connected ? "Live" : "Connecting again…";
}

function take(server, name, data) {
  if (name === "status") showStatus(data);
  else if (name === "line") addLine(data);
  else if (name === "audit") {
    addEntry(data);
    refresh(server);
  } else if (name === "lost") addText("audit", "some events were left out: this page was too slow");
}

function refresh(server) {
  showPlugins(server).catch((error) => {
    part("plugins-note").textContent = error.message;
  });
}

/** What there was before this page came. */
async function showRecent(server) {
  const { plugins } = await server.get("/v1/plugins");
  for (const { plugin } of plugins) {
    const { lines } = await server.get(`/v1/plugins/${plugin}/logs`);
    lines.forEach(addLine);
  }
  const entries = [];
  let after = 0;
  for (;;) {
    const page = await server.get(`/v1/audit?limit=1000&after=${after}`);
    entries.push(...page.entries);
    if (page.next === null) break;
    after = page.next;
  }
  entries.slice(-ROWS_MAX).forEach(addEntry);
}

function showStatus({ pipeline, plugins, sources }) {
  const flow = part("flow");
  flow.textContent = pipeline.state;
  flow.dataset.state = pipeline.state;
  part("committed").textContent = pipeline.committed.toLocaleString();
  part("end").textContent = pipeline.end.toLocaleString();
  part("lag").textContent = (pipeline.end - pipeline.committed).toLocaleString();
  part("head").textContent = pipeline.head.toLocaleString();
  const pause = part("pause");
  pause.hidden = pipeline.state !== "paused";
  if (pipeline.state === "paused") {
    pause.textContent = `${pipeline.plugin} failed at offset ${pipeline.offset}: ${pipeline.fault}. `
      + "Activate another component in its place, or let it go on: twohop resume";
  }
  counters = plugins ?? {};
  showCounters();
  showSnapshots(sources ?? {});
}

/** The tables that are being read, and those that wait for it. */
function showSnapshots(sources) {
  const rows = Object.entries(sources).flatMap(([source, { snapshot }]) =>
    (snapshot?.tables ?? []).map(({ table, rows, estimate, percent }, at) => {
      const left = at === 0 && snapshot.seconds_left !== null ? `${snapshot.seconds_left.toLocaleString()} s` : "";
      const bar = document.createElement("progress");
      Object.assign(bar, { max: 100, value: percent, title: `${percent} %` });
      const row = document.createElement("tr");
      const cells = [source, table, rows.toLocaleString(), estimate.toLocaleString(), bar, left];
      for (const cell of cells) {
        const place = document.createElement("td");
        place.append(cell);
        row.append(place);
      }
      return row;
    }));
  part("snapshots-part").hidden = rows.length === 0;
  part("snapshots").replaceChildren(...rows);
}

async function showPlugins(server) {
  const { plugins } = await server.get("/v1/plugins");
  const rows = plugins.map(pluginRow);
  part("plugins").replaceChildren(...rows);
  part("plugins-note").textContent = plugins.length > 0 ? "" : "No plugins: twohop plugin activate NAME FILE makes one.";
  showCounters();
  const shadowed = plugins.filter((plugin) => plugin.shadow !== null);
  const reports = await Promise.all(shadowed.map((plugin) =>
    server.get(`/v1/plugins/${plugin.plugin}/shadow`).catch(() => null)));
  part("shadows-part").hidden = shadowed.length === 0;
  part("shadows").replaceChildren(...reports.filter((report) => report !== null).map(shadow));
}

function pluginRow(plugin) {
  const { active } = plugin;
  const row = element("tr");
  row.dataset.plugin = plugin.plugin;
  const state = element("span", plugin.state);
  state.className = "pill";
  state.dataset.state = plugin.state;
  const stateCell = element("td");
  stateCell.append(state);
  row.append(
    element("th", plugin.plugin),
    stateCell,
    element("td", active?.generation ?? "–"),
    element("td", active?.digest.slice(0, 12) ?? "–"),
    element("td", active ? time(active.at) : "–"),
    element("td", active?.by ?? "–"),
    ...["changes", "routes", "faults", "dead_letters"].map((name) => {
      const cell = element("td", "–");
      cell.dataset.counter = name;
      return cell;
    }),
  );
  return row;
}

function showCounters() {
  for (const row of part("plugins").children) {
    const own = counters[row.dataset.plugin];
    for (const cell of row.querySelectorAll("[data-counter]")) {
      cell.textContent = own ? own[cell.dataset.counter].toLocaleString() : "–";
    }
  }
}

function shadow(report) {
  const { comparison } = report;
  const panel = element("div");
  panel.className = "panel";
  const differ = comparison.different + comparison.only_active + comparison.only_candidate;
  const each = (side) => (side.seen > 0 ? `${Math.round(side.nanoseconds / side.seen)} ns` : "–");
  panel.append(
    element("h3", `${report.plugin}: ${report.candidate.digest.slice(0, 12)}`),
    element("p", `${differ.toLocaleString()} of ${comparison.seen.toLocaleString()} changes differ; `
      + `${each(comparison.active)} a change now, ${each(comparison.candidate)} with the candidate; `
      + `${comparison.candidate.faults} faults; ${report.left_out} left out`),
  );
  for (const example of comparison.examples.slice(0, 3)) {
    const text = [
      `${example.of} ${example.key}`,
      ...example.active.map((effect) => `- ${effect}`),
      ...example.candidate.map((effect) => `+ ${effect}`),
    ];
    panel.append(element("pre", text.join("\n")));
  }
  return panel;
}

function addEntry(entry) {
  const what = [
    entry.action,
    entry.plugin ?? entry.digest?.slice(0, 12),
    entry.generation && `generation ${entry.generation}`,
    entry.text,
  ];
  const item = element("li");
  item.dataset.action = entry.action;
  item.append(element("time", time(entry.at)), element("b", what.filter(Boolean).join(" ")), element("span", `by ${entry.by}`));
  add("audit", entry.id, item);
}

function addLine(line) {
  const item = element("li");
  item.dataset.level = line.level;
  item.append(element("time", time(line.at)), element("b", `${line.plugin}@${line.generation}`), element("span", line.text));
  add("lines", line.id, item);
}

function addText(list, text) {
  const item = element("li");
  item.append(element("b", text));
  part(list).prepend(item);
}

/** The newest is at the top, and each is there once: it may come with what was and with what comes. */
function add(list, id, item) {
  const items = [...part(list).children];
  if (items.some((other) => other.dataset.id === String(id))) return;
  item.dataset.id = id;
  const older = items.find((other) => Number(other.dataset.id) < id);
  if (older) older.before(item);
  else part(list).append(item);
  while (part(list).children.length > ROWS_MAX) part(list).lastChild.remove();
}

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = String(text);
  return made;
}

/** Microseconds since the Unix epoch, on the reader's clock. */
function time(micros) {
  return new Date(micros / 1_000).toLocaleString([], { dateStyle: "short", timeStyle: "medium" });
}
