// Two people of the example's page in a real browser: they follow, post, edit and take back, and the other one sees it.
//
//   node social-feed.mjs URL
//
// Prints `seen` at the end. Exit code 0 if all came in time, and the page had no error; else 1, with the reasons on
// stderr.

import assert from "node:assert/strict";
import process from "node:process";
import { inBrowser } from "./browser.mjs";

const [url, twohop] = process.argv.slice(2);
if (!twohop) {
  console.error("usage: node social-feed.mjs URL TWOHOP-URL");
  process.exit(1);
}

await inBrowser(url, check, { others: [twohop] });

async function check(page) {
  await page.goto(url);
  const screen = (name) => page.locator(`#screen-${name}`);
  const posts = (name) => screen(name).locator(".post");
  const write = async (name, text) => {
    await screen(name).getByRole("textbox").fill(text);
    await screen(name).getByRole("button", { name: "Post" }).click();
  };
  for (const name of ["ann", "ben", "nova"]) {
    await screen(name).locator(".state[data-state=live]").waitFor();
  }

  // A celebrity, who is pulled.
  await write("nova", "the show begins");
  for (const name of ["ann", "ben"]) await posts(name).filter({ hasText: "the show begins" }).waitFor();
  await screen("nova").getByText("5,002 followers").waitFor();

  // What was posted before comes with a follow; what is posted after comes live, once.
  assert.equal(await posts("ann").filter({ hasText: "The kettle is on." }).count(), 0);
  await screen("ann").getByRole("button", { name: "Follow ben" }).click();
  await posts("ann").filter({ hasText: "The kettle is on." }).waitFor();
  await screen("ann").locator(".state[data-state=live]").waitFor();
  await write("ben", "tea is ready");
  await posts("ann").filter({ hasText: "tea is ready" }).waitFor();
  assert.equal(await posts("ann").filter({ hasText: "tea is ready" }).count(), 1);
  assert.match(await posts("ann").first().innerText(), /tea is ready/, "the newest is on top");

  // And the other way round.
  await screen("ben").getByRole("button", { name: "Follow ann" }).click();
  await posts("ben").filter({ hasText: "Is anybody here?" }).waitFor();
  await screen("ben").locator(".state[data-state=live]").waitFor();
  await write("ann", "on my way");
  await posts("ben").filter({ hasText: "on my way" }).waitFor();

  // Edited, taken back, unfollowed.
  page.once("dialog", (dialog) => dialog.accept("tea is cold"));
  await posts("ben").filter({ hasText: "tea is ready" }).getByRole("button", { name: "Edit" }).click();
  await posts("ann").filter({ hasText: "tea is cold" }).filter({ hasText: "edited" }).waitFor();
  await posts("ben").filter({ hasText: "tea is cold" }).getByRole("button", { name: "Delete" }).click();
  await posts("ann").filter({ hasText: "tea is cold" }).waitFor({ state: "detached" });
  await screen("ann").getByRole("button", { name: "Following ben" }).click();
  await posts("ann").filter({ hasText: "The kettle is on." }).waitFor({ state: "detached" });
  await posts("ann").filter({ hasText: "the show begins" }).waitFor();
  assert.equal(await page.locator("#trouble").isVisible(), false);
  console.log("seen");
}
