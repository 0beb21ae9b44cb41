// The feed: shows messages, the newest first, and the figures above them.
//
// In: messages. Out: rows of the page, at most ROWS_MAX.
// A payload is hostile: it becomes text, never markup. Many messages in one frame of the screen cost one drawing.

const ROWS_MAX = 200;
const TEXT_MAX = 4_000;
const BYTES_MAX = 256;
const LATENCIES_MAX = 500;
const KNOWN_EVENTS = ["insert", "update", "delete", "truncate", "snapshot", "schema", "message", "reset"];

const RESETS = {
  expired: "the history no longer reaches back so far",
  epoch: "it is another history now",
  ahead: "the history was set back",
  shards: "the history was divided anew",
  withheld: "its history may not be read",
  follows: "whom the user follows has changed",
};

const time = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const number = new Intl.NumberFormat();

const get = (id) => document.getElementById(id);

/** An element with a class and text. */
export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export class Feed {
  #pending = [];
  #drawing = false;
  #delivered = 0;
  #unspoken = 0;
  #seconds = new Array(60).fill(0);
  #latencies = [];
  #hopUntil = 0;
  paused = false;

  constructor() {
    this.#drawMinute();
    setInterval(() => this.#second(), 1_000);
    setInterval(() => this.#speak(), 15_000);
  }

  get isEmpty() {
    return get("feed").childElementCount === 0 && this.#pending.length === 0;
  }

  add(message) {
    if (message.event !== "reset") {
      this.#delivered += 1;
      this.#unspoken += 1;
      this.#seconds[59] += 1;
    }
    message.at = new Date();
    const sentAt = message.data?.sent_at;
    if (typeof sentAt === "number") {
      message.delay = Math.max(0, message.at.getTime() - sentAt / 1_000);
      this.#latencies.push(message.delay);
      if (this.#latencies.length > LATENCIES_MAX) this.#latencies.shift();
    }
    this.#pending.push(message);
    if (this.#pending.length > ROWS_MAX) this.#pending.shift();
    this.draw();
  }

  draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    // A tab in the background gets no frames: what waits is bounded above.
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#drawFigures();
      if (this.paused) return this.#drawNote();
      const rows = this.#pending.splice(0).reverse().map(row);
      if (rows.length > 0) this.#hop();
      const feed = get("feed");
      feed.prepend(...rows);
      while (feed.childElementCount > ROWS_MAX) feed.lastElementChild.remove();
      this.#drawNote();
    });
  }

  clear() {
    this.#pending.length = 0;
    get("feed").replaceChildren();
    this.#drawNote();
  }

  #drawNote() {
    const count = get("feed").childElementCount;
    get("feed-note").textContent = this.paused
      ? `Paused: ${number.format(this.#pending.length)} waiting.`
      : count >= ROWS_MAX ? `The newest ${ROWS_MAX} are shown.` : "";
    get("empty").hidden = count > 0;
  }

  #drawFigures() {
    get("delivered").textContent = number.format(this.#delivered);
    const sorted = [...this.#latencies].sort((a, b) => a - b);
    if (sorted.length > 0) {
      get("latency").textContent = millis(sorted[sorted.length >> 1]);
    }
  }

  #second() {
    const lastFive = this.#seconds.slice(-5).reduce((sum, count) => sum + count, 0) / 5;
    get("rate").textContent = lastFive < 10 ? lastFive.toFixed(1) : number.format(Math.round(lastFive));
    this.#drawMinute();
    this.#seconds.shift();
    this.#seconds.push(0);
  }

  #drawMinute() {
    const chart = get("minute");
    while (chart.childElementCount < 60) {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      bar.setAttribute("x", chart.childElementCount * 4);
      bar.setAttribute("width", 3);
      chart.append(bar);
    }
    const most = Math.max(1, ...this.#seconds);
    this.#seconds.forEach((count, nth) => {
      const height = count === 0 ? 1 : 3 + (count / most) * 33;
      chart.children[nth].setAttribute("height", height);
      chart.children[nth].setAttribute("y", 36 - height);
      chart.children[nth].classList.toggle("some", count > 0);
    });
  }

  // Every message would be a torrent to those who listen to the page.
  #speak() {
    if (this.#unspoken > 0) get("spoken").textContent = `${number.format(this.#unspoken)} new messages`;
    this.#unspoken = 0;
  }

  #hop() {
    const now = performance.now();
    if (now < this.#hopUntil) return;
    this.#hopUntil = now + 900;
    const hop = get("hop");
    hop.classList.remove("going");
    void hop.getBoundingClientRect();
    hop.classList.add("going");
  }
}

function millis(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : `${number.format(Math.round(value))} ms`;
}

function row(message) {
  const known = KNOWN_EVENTS.includes(message.event);
  const made = element("li", "message");
  made.dataset.event = known ? message.event : "other";
  const head = element("div", "message-head");
  const at = element("time", "", time.format(message.at));
  at.dateTime = message.at.toISOString();
  head.append(element("span", "event", message.event || "message"), element("span", "channel", message.channel));
  if (message.delay !== undefined) head.append(element("span", "delay", `after ${millis(message.delay)}`));
  head.append(at);
  made.append(head, message.event === "reset" ? resetText(message) : payload(message));
  return made;
}

function resetText({ channel, data }) {
  return element("p", "text", `Messages of ${channel} may be missing here: ${RESETS[data.reason] ?? data.reason}.`);
}

function payload({ data }) {
  if (data instanceof Uint8Array) return element("pre", "text", bytes(data));
  const isObject = data !== null && typeof data === "object" && !Array.isArray(data);
  const text = typeof data === "string" ? data : JSON.stringify(data, null, 2);
  if (!isObject || text.length > TEXT_MAX) {
    const cut = text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)} … (${number.format(text.length)} characters)` : text;
    return element("pre", "text", cut);
  }
  const list = element("dl", "fields");
  for (const [name, field] of Object.entries(data)) {
    const pair = element("div");
    pair.append(element("dt", "", name), fieldValue(field));
    list.append(pair);
  }
  return list;
}

function bytes(data) {
  const first = [...data.subarray(0, BYTES_MAX)].map((byte) => byte.toString(16).padStart(2, "0"));
  return `${first.join(" ")}${data.length > BYTES_MAX ? " …" : ""} (${number.format(data.length)} bytes)`;
}

function fieldValue(field) {
  if (field === null) return element("dd", "null", "null");
  if (typeof field === "object") return element("dd", "object", JSON.stringify(field));
  return element("dd", typeof field, String(field));
}
