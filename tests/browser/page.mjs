// Opens the page in a real browser, selects a channel and waits for a text on it.
//
//   node page.mjs URL CHANNEL TEXT [SCREENSHOT.png]
//
// Prints `ready` once the page follows the channel, then `seen` once the text is shown. Exit code 0 if it was shown
// in time and the page had no error and asked nobody but its own origin; else 1, with the reasons on stderr.

import process from "node:process";
import { inBrowser } from "./browser.mjs";

const [url, channel, text, screenshot] = process.argv.slice(2);
if (!text) {
  console.error("usage: node page.mjs URL CHANNEL TEXT [SCREENSHOT.png]");
  process.exit(1);
}

await inBrowser(url, check);

async function check(page) {
  await page.goto(url);
  await page.getByRole("searchbox").fill(channel);
  const box = page.getByRole("checkbox", { name: channel, exact: true });
  await box.waitFor();
  // The page may have selected it by itself.
  const followed = page.waitForResponse((response) => follows(response.url()));
  if (await box.isChecked()) await box.uncheck();
  await box.check();
  await followed;
  await page.locator("#state[data-state=live]").waitFor();
  console.log("ready");
  try {
    const onChannel = page.locator("#feed .message").filter({ has: page.getByText(channel, { exact: true }) });
    await onChannel.filter({ hasText: text }).first().waitFor();
    console.log("seen");
  } finally {
    if (screenshot) await page.screenshot({ path: screenshot });
  }
}

function follows(address) {
  const { pathname, searchParams } = new URL(address);
  return pathname === "/v1/events" && searchParams.getAll("channel").includes(channel);
}
