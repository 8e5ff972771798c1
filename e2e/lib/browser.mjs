import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { root } from './program.mjs';

const out = join(root, 'e2e', 'out');

// launch starts Debian's Chromium, or the one that CHROMIUM names. By default without
// QUIC, so that the protocol of a page is known.
export function launch(flags = ['--disable-quic']) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [...flags, '--ignore-certificate-errors', ...(process.getuid() === 0 ? ['--no-sandbox'] : [])],
  });
}

// open shows the page in a new window and records its errors and warnings.
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(String(error)));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) page.problems.push(`${message.text()} (${message.location().url})`);
  });
  await page.goto(url);
  return page;
}

export async function screenshot(page, name) {
  mkdirSync(out, { recursive: true });
  await page.evaluate(() => scrollTo(0, 0));
  return page.screenshot({ path: join(out, `${name}.png`), fullPage: true });
}
