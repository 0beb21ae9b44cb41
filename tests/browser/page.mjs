// Opens the page in a real browser, selects a channel and waits for a text on it.
//
//   node page.mjs URL CHANNEL TEXT [TOKEN] [SCREENSHOT.png]
//
// With a token, which may be empty, the page must ask for it first. Prints `ready` once the page follows the channel,
// then `seen` once the text is shown. Exit code 0 if it was shown in time and the page had no error and asked nobody but
// its own origin; else 1, with the reasons on stderr.

import process from "node:process";
import { inBrowser } from "./browser.mjs";

const [url, channel, text, token, screenshot] = process.argv.slice(2);
if (!text) {
  console.error("usage: node page.mjs URL CHANNEL TEXT [TOKEN] [SCREENSHOT.png]");
  process.exit(1);
}

// A browser also says on its console that it was refused.
await inBrowser(url, check, { expected: token ? /401 \(Unauthorized\)/ : undefined });

async function check(page) {
  await page.goto(url);
  if (token) {
    await page.locator("#channels-note").filter({ hasText: "say who you are" }).waitFor();
    await page.getByLabel("A token (JWT)").fill(token);
    await page.getByRole("button", { name: "Use it" }).click();
    await page.getByText("in use").waitFor();
  }
  await page.getByRole("searchbox").fill(channel);
  const box = page.getByRole("checkbox", { name: channel, exact: true });
  await box.waitFor();
  // The page may have selected it by itself.
  await box.check();
  await page.locator('.pick[data-state="live"]').filter({ has: box }).waitFor();
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
