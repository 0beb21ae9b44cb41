// Each person's screen: the timeline is read once, then followed from the position that the reading gave, so that
// nothing is missing and nothing comes twice. What a person does is a row that the application writes; the screens
// learn of it the same way as everybody's.

const LIMIT = 50;
const RETRY_MS = 1_000;

const twohop = await json("/twohop.json");
const { connect } = await import(`${twohop}/twohop.js`);
const screens = new Map();
await meet();

/** Fetches the people, makes a screen for each that has none, and shows who follows whom. */
async function meet() {
  const people = await json("/people");
  for (const person of people) {
    if (!screens.has(person.name)) screens.set(person.name, new Screen(person.name));
  }
  for (const person of people) screens.get(person.name).show(person, people);
}

function Screen(name) {
  const root = document.getElementById("screen").content.firstElementChild.cloneNode(true);
  const find = (selector) => root.querySelector(selector);
  const posts = find(".posts");
  root.id = `screen-${name}`;
  root.setAttribute("aria-label", `The screen of ${name}`);
  find("h2").textContent = name;
  find("label span").textContent = `Post as ${name}`;
  find("textarea").placeholder = `What ${name} has to say`;
  find("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = find("textarea");
    if (await write("POST", "/posts", { author: name, body: text.value })) text.value = "";
  });
  document.getElementById("screens").append(root);
  // A connection listens to one timeline at most, and each of these people would have a page of their own.
  const feed = connect({ shared: false });
  feed.addEventListener("state", ({ detail }) => state(detail.state));
  let leave;
  load();

  this.show = (person, people) => {
    const count = person.followers.toLocaleString("en");
    find(".reach").textContent = `${count} ${person.followers === 1 ? "follower" : "followers"}`;
    find(".follows").replaceChildren(...people.filter((other) => other.name !== name).map((other) => {
      const button = document.createElement("button");
      const follows = person.follows.includes(other.name);
      button.type = "button";
      button.textContent = follows ? `Following ${other.name}` : `Follow ${other.name}`;
      button.setAttribute("aria-pressed", follows);
      button.addEventListener("click", () => write(follows ? "DELETE" : "PUT", `/follows/${name}/${other.name}`));
      return button;
    }));
  };

  /** Reads the timeline, shows it, and follows it from there. */
  async function load() {
    try {
      const { entries, id } = await json(`${twohop}/v1/timelines/${name}?limit=${LIMIT}`);
      posts.replaceChildren(...entries.map(shown));
      const before = leave;
      leave = feed.subscribe(`timeline:${name}`, {
        after: id,
        message: ({ event, data }) => (event === "retract" ? taken(data) : put(data)),
        // Also after a follow or an unfollow: what was posted before comes or goes with it.
        reset: load,
      });
      before?.();
    } catch {
      setTimeout(load, RETRY_MS);
    }
  }

  function put(entry) {
    const there = byKey(entry);
    // The reading may have shown a later edit than the one that is told now.
    if (there && there.entry.edits > entry.edits) return;
    const post = shown(entry);
    if (there) {
      there.replaceWith(post);
    } else {
      const older = [...posts.children].find((other) => isBelow(other.entry, entry));
      posts.insertBefore(post, older ?? null);
    }
    post.classList.add("fresh");
  }

  function taken(entry) {
    byKey(entry)?.remove();
  }

  function byKey(entry) {
    return [...posts.children].find((post) => post.entry.author === entry.author && post.entry.item === entry.item);
  }

  function shown(entry) {
    const post = document.getElementById("post").content.firstElementChild.cloneNode(true);
    const time = post.querySelector("time");
    const at = new Date(entry.time / 1_000);
    post.entry = entry;
    post.querySelector(".author").textContent = entry.author;
    post.querySelector(".body").textContent = entry.payload.body;
    post.querySelector(".edited").hidden = entry.edits === 0;
    post.querySelector(".deeds").hidden = entry.author !== name;
    post.querySelector(".edit").addEventListener("click", () => {
      const body = prompt("What it shall say", entry.payload.body);
      if (body) write("PUT", `/posts/${entry.item}`, { body });
    });
    post.querySelector(".delete").addEventListener("click", () => write("DELETE", `/posts/${entry.item}`));
    time.dateTime = at.toISOString();
    time.textContent = at.toLocaleTimeString();
    return post;
  }

  function state(now) {
    const line = find(".state");
    line.dataset.state = now;
    line.textContent = now;
  }
}

function isBelow(entry, other) {
  return entry.time < other.time;
}

async function json(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.json();
}

/** Asks the application to write a row; shows why not, if it does not. */
async function write(method, address, body) {
  const headers = body && { "content-type": "application/json" };
  const answer = await fetch(address, { method, headers, body: body && JSON.stringify(body) });
  const trouble = document.getElementById("trouble");
  trouble.hidden = answer.ok;
  if (!answer.ok) trouble.textContent = await answer.text();
  if (address.startsWith("/follows/")) await meet();
  return answer.ok;
}
