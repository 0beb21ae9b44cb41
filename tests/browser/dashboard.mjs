// Opens the dashboard in a real browser with a token, and waits for what happens.
//
//   node dashboard.mjs URL TOKEN PLUGIN TEXT [SCREENSHOT.png]
//
// Prints `ready` once the plugin is shown and events come, then `seen` once the text is among what happened.

import process from "node:process";
import { inBrowser } from "./browser.mjs";

const [url, token, plugin, text, screenshot] = process.argv.slice(2);
if (!text) {
  console.error("usage: node dashboard.mjs URL TOKEN PLUGIN TEXT [SCREENSHOT.png]");
  process.exit(1);
}

await inBrowser(url, async (page) => {
  await page.goto(url);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Open" }).click();
  const row = page.locator(`#plugins tr[data-plugin="${plugin}"]`);
  await row.locator('.pill[data-state="active"]').waitFor();
  await page.locator("#state[data-state=live]").waitFor();
  await page.locator("#flow").filter({ hasText: "running" }).waitFor();
  // Who comes again in this tab is not asked.
  await page.reload();
  await row.waitFor();
  await page.locator("#state[data-state=live]").waitFor();
  console.log("ready");
  await page.locator("#audit li").filter({ hasText: text }).first().waitFor();
  await row.locator("[data-counter=changes]").filter({ hasText: /[1-9]/ }).waitFor();
  console.log("seen");
  if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
});
