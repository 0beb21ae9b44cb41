// A page in a headless Chromium. XTASK_CHROMIUM names another browser than Debian's.

import process from "node:process";
import { chromium } from "playwright-core";

const WAIT_MAX = 30_000;

/** A headless Chromium that asks nobody for anything of its own; `flags` are further ones of the browser's. */
export function launch(flags = []) {
  return chromium.launch({
    executablePath: process.env.XTASK_CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...flags,
    ],
  });
}

/** Lets `check(page)` look at a new page, and ends the program: exit code 0 if it came to its end, the page had no error
 *  and asked nobody but its own origin and `others`; else 1, with the reasons on stderr. Lines of its console that match
 *  `expected` are no errors, `flags` are the browser's own, and `after()` looks at what it leaves once it has ended. */
export async function inBrowser(url, check, { others = [], expected = /$^/, flags = [], after = () => {} } = {}) {
  const origins = [url, ...others].map((known) => new URL(known).origin);
  const browser = await launch(flags);
  const faults = [];
  try {
    const page = await browser.newPage({
      viewport: { width: 1280, height: 800 },
      colorScheme: process.env.XTASK_COLOR_SCHEME === "dark" ? "dark" : "light",
    });
    page.setDefaultTimeout(WAIT_MAX);
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type()) && !expected.test(message.text())) faults.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
    page.on("request", (request) => {
      if (!origins.includes(new URL(request.url()).origin)) faults.push(`foreign request: ${request.url()}`);
    });
    await check(page);
  } catch (error) {
    faults.push(error.message);
  } finally {
    await browser.close();
  }
  try {
    after();
  } catch (error) {
    faults.push(error.message);
  }
  faults.forEach((fault) => console.error(fault));
  process.exit(faults.length > 0 ? 1 : 0);
}
