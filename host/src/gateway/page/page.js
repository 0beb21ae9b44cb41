// The page: which channels there are, which of them are selected, and the word on the connection.
//
// The selection lives in the address after `#`, so that a link shows the same. Without one, the channels of whole
// tables are selected as they first appear. A token lives in the tab's session, and never in the address.

import { Feed, element } from "/feed.js";
import { connect } from "/twohop.js";

const REFRESH = 4_000;
const PAGE_COUNT = 100;
const GROUPS_MAX = 40;
const SELECTED_MAX = 128;
const FIRST_SELECTED_MAX = 8;
const TOKEN_KEY = "twohop-token";
const OF_TOKENS = [4020, 4021, 4022];

const get = (id) => document.getElementById(id);
const feed = new Feed();
// How each followed channel is left; those that stand, and those that may not be had.
const followed = new Map();
const standing = new Set();
const refused = new Set();

let token = sessionStorage.getItem(TOKEN_KEY) ?? "";
let live = open();
let countdown = 0;
let selected = fromAddress();
let groups = new Map();
// Groups of which not all keys are listed.
let partial = new Set();
let isListed = true;
let search = "";
let lastShown = "";

function open() {
  const opened = connect({ token: token === "" ? undefined : () => token });
  opened.addEventListener("state", ({ detail }) => showState(detail));
  return opened;
}

// Channels are `TABLE` and `TABLE:KEY`: of each table's keys the first page is enough, and no table is left out.
async function list(prefix) {
  const found = [];
  const partial = new Set();
  let after = "";
  for (let pages = 0; pages < GROUPS_MAX; pages += 1) {
    const query = new URLSearchParams({ prefix, after, limit: PAGE_COUNT });
    const headers = token === "" ? {} : { Authorization: `Bearer ${token}` };
    const answer = await fetch(`/v1/channels?${query}`, { headers, cache: "no-store" });
    if (!answer.ok) {
      const { error } = await answer.json();
      showNeed(error);
      throw Object.assign(new Error(error.message), { isRefused: error.reconnect === "never" });
    }
    const { channels, next } = await answer.json();
    found.push(...channels);
    if (next === null) break;
    const group = groupOf(next);
    if (next !== group) partial.add(group);
    // Beyond every key of this group: `;` is the byte after `:`. A name without keys is its own end.
    after = next === group ? next : `${group};`;
  }
  return { found, partial };
}

// 2 before 10, which the server's order of bytes does not give.
const byNumber = new Intl.Collator("en", { numeric: true }).compare;
const groupOf = (channel) => channel.split(":", 1)[0];

async function refresh() {
  const prefix = search;
  let found;
  try {
    ({ found, partial } = await list(prefix));
  } catch (error) {
    get("channels-note").textContent = `The list of channels did not come: ${error.message}.`;
    if (!error.isRefused) return;
    get("channels-note").textContent += " Type the name of one.";
    [groups, isListed] = [new Map(), false];
    showChannels();
    return;
  }
  isListed = true;
  if (prefix !== search) return;
  groups = new Map();
  for (const channel of found) {
    const group = groupOf(channel);
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(channel);
  }
  get("channels-note").textContent = found.length > 0 ? "" : prefix === "" ? "No channel yet." : "No channel begins so.";
  if (selected === null && prefix === "" && found.length > 0) {
    const whole = found.filter((channel) => channel === groupOf(channel));
    select(new Set((whole.length > 0 ? whole : found).slice(0, FIRST_SELECTED_MAX)));
  }
  showChannels();
}

function showChannels() {
  const chosen = selected ?? new Set();
  const unlisted = [...chosen].filter((channel) => !groups.get(groupOf(channel))?.includes(channel));
  // Who may not have the list may know a name.
  const missing = search === "" ? unlisted : isListed ? [] : [...new Set([search, ...unlisted])];
  const shown = JSON.stringify([[...groups], missing, [...chosen], [...standing], [...refused], search]);
  if (shown === lastShown) return;
  lastShown = shown;
  const focused = document.activeElement?.dataset?.channel;
  const open = new Set([...document.querySelectorAll("#channels details[open]")].map((item) => item.dataset.group));
  const parts = [];
  if (missing.length > 0) parts.push(...missing.map(channelRow));
  for (const [group, channels] of groups) {
    const keys = channels.filter((channel) => channel !== group).sort(byNumber);
    if (channels.includes(group)) parts.push(channelRow(group));
    if (keys.length === 0) continue;
    const details = element("details");
    details.dataset.group = group;
    details.open = search !== "" || open.has(group);
    const some = partial.has(group) ? "first " : "";
    const count = `${some}${keys.length} ${keys.length === 1 ? "key" : "keys"}`;
    details.append(element("summary", "", channels.includes(group) ? count : `${group}: ${count}`), ...keys.map(channelRow));
    parts.push(details);
  }
  get("channels").replaceChildren(...parts);
  if (focused !== undefined) {
    [...document.querySelectorAll("#channels input")].find((input) => input.dataset.channel === focused)?.focus();
  }
  get("none").hidden = chosen.size === 0;
}

function channelRow(channel) {
  const label = element("label", "pick");
  label.dataset.state = standing.has(channel) ? "live" : refused.has(channel) ? "refused" : "";
  const box = element("input");
  box.type = "checkbox";
  box.checked = selected?.has(channel) ?? false;
  box.dataset.channel = channel;
  box.addEventListener("change", () => {
    const next = new Set(selected);
    if (box.checked && next.size < SELECTED_MAX) next.add(channel);
    else next.delete(channel);
    select(next);
    showChannels();
  });
  label.append(box, element("span", "name", channel));
  return label;
}

function select(channels) {
  selected = channels;
  // An empty name stands for a selection of nothing, unlike no selection.
  const query = new URLSearchParams((channels.size > 0 ? [...channels] : [""]).map((channel) => ["channel", channel]));
  history.replaceState(null, "", `#${query}`);
  follow();
}

function follow() {
  const wanted = selected ?? new Set();
  for (const [channel, leave] of followed) {
    if (wanted.has(channel)) continue;
    leave();
    followed.delete(channel);
    standing.delete(channel);
  }
  refused.forEach((channel) => wanted.has(channel) || refused.delete(channel));
  for (const channel of wanted) {
    if (!followed.has(channel)) followed.set(channel, live.subscribe(channel, handlers(channel)));
  }
  showEmpty();
}

function handlers(channel) {
  return {
    message: (message) => feed.add(message),
    reset: ({ reason }) => feed.add({ channel, event: "reset", data: { reason } }),
    ready: () => {
      standing.add(channel);
      refused.delete(channel);
      showChannels();
    },
    error: (error) => {
      followed.delete(channel);
      standing.delete(channel);
      refused.add(channel);
      showChannels();
      get("channels-note").textContent = `${channel}: ${error.message}`;
      showNeed(error);
    },
  };
}

// Another token is another person: nothing of the one before stays.
function use(text) {
  token = text;
  if (token === "") sessionStorage.removeItem(TOKEN_KEY);
  else sessionStorage.setItem(TOKEN_KEY, token);
  live.close();
  followed.clear();
  standing.clear();
  refused.clear();
  feed.clear();
  live = open();
  get("token-text").value = "";
  get("token").open = token === "";
  showToken();
  follow();
  refresh();
}

function showToken() {
  get("token-state").textContent = token === "" ? "" : "in use";
  get("token-forget").hidden = token === "";
}

function showNeed(error) {
  if (OF_TOKENS.includes(error?.code)) get("token").open = true;
}

function fromAddress() {
  const text = location.hash.slice(1);
  if (text === "") return null;
  return new Set(new URLSearchParams(text).getAll("channel").filter((channel) => channel !== "").slice(0, SELECTED_MAX));
}

function showEmpty() {
  const channels = [...(selected ?? [])];
  const parts = channels.length > 0
    ? [
        element("h3", "", `Following ${channels.slice(0, 3).join(", ")}${channels.length > 3 ? ` and ${channels.length - 3} more` : ""}`),
        element("p", "", "The next commit that reaches a followed channel appears here by itself. Older messages stay where they are: this is a live view."),
      ]
    : groups.size > 0 || selected !== null
      ? [element("h3", "", "Choose a channel"), element("p", "", "Select one or more of the list: whole tables, or one row by its key.")]
      : [
          element("h3", "", "Nothing has come through yet"),
          element("p", "", "Commit a row to a table that Twohop follows. Its policy says to which channels the change goes; they show up in the list by themselves, and what comes on them shows up here."),
          element("pre", "", "INSERT INTO orders (customer, status) VALUES ('Ada', 'new');"),
        ];
  get("empty").replaceChildren(...parts);
  get("empty").hidden = !feed.isEmpty;
}

const WAYS = { websocket: "by WebSocket", events: "by event stream", poll: "by long-poll" };

function showState({ state, delay = 0, error, transport }) {
  const texts = {
    idle: "Nothing selected",
    connecting: "Connecting",
    live: "Live",
    refused: `Refused: ${error?.message}`,
  };
  clearInterval(countdown);
  if (state === "closed") return;
  get("state").dataset.state = state;
  get("state").title = transport === undefined ? "" : `${WAYS[transport]}${live.shared ? ", once for all tabs" : ""}`;
  get("state-text").textContent = texts[state] ?? "";
  if (state === "waiting") countDown(Date.now() + delay);
  if (state === "refused") showNeed(error);
  if (state !== "connecting") get("spoken").textContent = texts[state] ?? "The connection is lost";
}

function countDown(end) {
  const show = () => {
    get("state-text").textContent = `Lost, back in ${Math.max(0, Math.ceil((end - Date.now()) / 1_000))} s`;
  };
  show();
  countdown = setInterval(show, 500);
}

get("search").addEventListener("input", (event) => {
  search = event.target.value;
  refresh();
});
get("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = get("token-text").value.trim();
  if (text !== "") use(text);
});
get("token-forget").addEventListener("click", () => use(""));
get("none").addEventListener("click", () => {
  select(new Set());
  showChannels();
});
get("clear").addEventListener("click", () => {
  feed.clear();
  showEmpty();
});
get("pause").addEventListener("click", (event) => {
  feed.paused = !feed.paused;
  event.target.setAttribute("aria-pressed", String(feed.paused));
  event.target.textContent = feed.paused ? "Go on" : "Pause";
  feed.draw();
});
addEventListener("hashchange", () => {
  selected = fromAddress() ?? selected;
  follow();
  showChannels();
});
document.addEventListener("visibilitychange", () => !document.hidden && refresh());
setInterval(() => !document.hidden && refresh(), REFRESH);

showState({ state: live.state });
showToken();
follow();
refresh();
