import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { launch, open, screenshot } from './lib/browser.mjs';
import { Gate } from './lib/gate.mjs';
import { until } from './lib/program.mjs';
import { Site } from './lib/site.mjs';

// A step is longer than the orders' interval, so that polls see each status.
const site = await Site.start({ flags: ['-step', '1500ms', '-think', '4500ms', '-shop', '2s'] });
const browser = await launch();
after(async () => {
  await browser.close();
  await site.stop();
});

const steps = ['payment_processing', 'payment_confirmed', 'preparing_shipment', 'shipped'];

test('over HTTP/1.1 the page shows each step of an order as a toast and in the timeline', async () => {
  const page = await open(browser, site.url);
  await page.locator('#inventory tbody tr').nth(7).waitFor();
  await logIn(page, 'alice');
  await watchStatuses(page);
  await page.getByRole('button', { name: 'Order Hazel' }).first().click();
  for (const text of ['We have your order', 'went through', 'We are packing', 'On the way to you']) {
    await page.locator('.toast', { hasText: text }).waitFor();
  }
  await page.locator('.order[data-status="shipped"]').waitFor();
  assert.deepEqual(await page.evaluate(() => window.statuses), steps);
  assert.equal(await page.locator('.order .steps .reached').count(), 4);
  assert.equal(await page.locator('#notifications li').count(), 4);
  await page.locator('#recommendations .card').nth(2).waitFor();
  for (const name of ['message', ...steps.map((step) => `order.${step}`)]) {
    await page.locator('#timeline .event-name', { hasText: new RegExp(`^${name}$`) }).first().waitFor();
  }
  await page.locator('#protocol', { hasText: 'HTTP/1.1' }).waitFor();
  await screenshot(page, 'http1');
  checkProblems(page);
  await page.context().close();
});

test('over HTTP/2 more than twenty EventSources share one connection and one poll', async () => {
  const page = await open(browser, 'about:blank');
  const streams = await countStreams(page);
  await page.goto(site.secureUrl);
  await page.locator('#inventory tbody tr').nth(7).waitFor();
  await logIn(page, 'bob');
  await page.locator('#protocol', { hasText: 'HTTP/2' }).waitFor();
  for (const viewers of ['11', '21']) {
    await page.locator('#more-viewers').click();
    await page.locator('#viewers', { hasText: viewers }).waitFor();
  }
  await page.locator('#surprise').click();
  await page.locator('.toast', { hasText: 'On the way to you' }).waitFor();
  await until('24 streams are open', () => streams.length >= 24);
  assert.deepEqual(new Set(streams.map((stream) => stream.protocol)), new Set(['h2']));
  assert.equal(new Set(streams.map((stream) => stream.connection)).size, 1);
  const { polls, intervals } = await pollsOfInventory();
  // One view, and that of the page before, which lingers.
  assert.ok(polls <= 2 * (intervals + 1), `the inventory was polled ${polls} times in ${intervals} intervals`);
  await screenshot(page, 'http2');
  checkProblems(page);
  await page.context().close();
});

test('the page fits a phone and a dark colour scheme', async () => {
  const page = await open(browser, site.secureUrl, { viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
  await logIn(page, 'alice');
  await page.locator('#surprise').click();
  await page.locator('.order').first().waitFor();
  await page.locator('.news li').first().waitFor();
  await page.locator('#protocol', { hasText: 'HTTP/2' }).waitFor();
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.equal(overflow, 0, 'the page is wider than the phone');
  await screenshot(page, 'phone');
  await page.context().close();
});

test('the page shows an outage of the backend, and is live again afterwards', async () => {
  const page = await open(browser, site.secureUrl);
  await page.locator('#inventory tbody tr').nth(7).waitFor();
  await site.backend.stop();
  const badge = page.locator('[data-stale="inventory"]');
  await badge.waitFor();
  assert.match(await badge.textContent(), /^Backend unreachable since .+ \(502\)$/);
  await site.startBackend();
  await badge.waitFor({ state: 'hidden' });
  assert.equal(await page.locator('.stream .state').first().textContent(), 'live');
  await page.context().close();
});

test('the page shows each recommendation as it comes, and loses none when its connection is cut', async (t) => {
  const gate = await Gate.open(site.ports[8080]);
  t.after(() => gate.close());
  const requests = async () => (await site.ask('GET', '/v1/requests')).content['GET /v1/recommendations'] ?? 0;
  const before = await requests();
  const page = await open(browser, gate.url);
  await page.locator('.users [data-login="bob"]').click();
  const cards = page.locator('#recommendations .card');
  await cards.first().waitFor();
  gate.cut();
  assert.ok(await cards.count() < 3, 'the cut came too late');
  await cards.nth(2).waitFor();
  const state = page.locator('.stream', { hasText: '/v1/recommendations' }).locator('.state');
  await until('the stream is complete', async () => await state.textContent() === 'complete');
  const names = await cards.locator('.pet-name').allTextContents();
  assert.equal(new Set(names).size, 3);
  assert.equal(names.length, 3);
  assert.equal(await requests() - before, 1);
  await page.getByRole('button', { name: 'Ask again' }).click();
  await until('the backend is asked again', async () => await requests() - before === 2);
  await cards.nth(2).waitFor();
  await page.context().close();
});

test('a change shows how long it took, through Caddy and past it', async () => {
  const page = await open(browser, site.secureUrl);
  await page.locator('#inventory tbody tr').nth(7).waitFor();
  await logIn(page, 'alice');
  await page.locator('#direct').click();
  await page.locator('#latency', { hasText: /after \d+ ms$/ }).waitFor();
  await page.locator('#surprise').click();
  await page.locator('#latency', { hasText: /after \d{1,3} ms$/ }).waitFor();
  await page.context().close();
});

test('the second click of a double click logs nobody else in', async () => {
  const page = await open(browser, site.secureUrl);
  const requests = async () => (await site.ask('GET', '/v1/requests')).content;
  const before = await requests();
  const login = page.locator('.users [data-login="alice"]');
  const place = await login.boundingBox();
  await login.dblclick();
  const pressed = page.locator('.users [aria-pressed="true"]');
  await pressed.waitFor();
  assert.deepEqual(await login.boundingBox(), place, 'the button has moved');
  await page.locator('#logout').click();
  await page.locator('.recommendations .login-hint [data-login="alice"]').dblclick();
  await page.locator('#recommendations .card').nth(2).waitFor();
  assert.equal(await pressed.textContent(), 'alice');
  const after = await requests();
  assert.equal(after['POST /v1/login'] - before['POST /v1/login'], 2);
  assert.equal(after['POST /v1/orders'], before['POST /v1/orders']);
  await page.context().close();
});

test('a frozen backend greys the panels, shows in the header, and costs no requests', async () => {
  const page = await open(browser, site.secureUrl);
  await page.locator('#inventory tbody tr').nth(7).waitFor();
  await logIn(page, 'alice');
  await page.locator('#health[data-state="live"]').waitFor();
  const total = async () => Number(await page.locator('#total-requests').textContent());
  const before = await until('the count of requests', total);
  await page.locator('#freeze').click();
  await page.locator('.panel.inventory[data-state="stale"]').waitFor();
  await page.locator('#health[data-state="stale"]').waitFor();
  await screenshot(page, 'frozen');
  await page.locator('#health[data-state="live"]').waitFor();
  assert.ok(await total() - before < 60, `${await total() - before} requests were counted`);
  await page.context().close();
});

async function logIn(page, user) {
  await page.locator(`.users [data-login="${user}"]`).click();
  await page.locator('.stream .state:is([data-state="live"], [data-state="complete"])').nth(3).waitFor();
}

// watchStatuses records each status of the newest order's card.
function watchStatuses(page) {
  return page.evaluate(() => {
    window.statuses = [];
    new MutationObserver(() => {
      const status = document.querySelector('.order')?.dataset.status;
      if (status && status !== window.statuses.at(-1)) window.statuses.push(status);
    }).observe(document.querySelector('#orders'), { subtree: true, childList: true, attributeFilter: ['data-status'] });
  });
}

// countStreams records each event stream that opens, and its connection.
async function countStreams(page) {
  const streams = [];
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('Network.enable');
  devtools.on('Network.responseReceived', ({ type, response }) => {
    if (type === 'EventSource') streams.push({ protocol: response.protocol, connection: response.connectionId });
  });
  return streams;
}

// pollsOfInventory waits for three polls and returns their number and how many
// intervals have passed.
async function pollsOfInventory() {
  const count = async () => (await site.ask('GET', '/v1/requests')).content['GET /v1/inventory'];
  const [first, started] = [await count(), performance.now()];
  const last = await until('three more polls', async () => {
    const now = await count();
    return now >= first + 3 && now;
  });
  return { polls: last - first, intervals: (performance.now() - started) / 2000 };
}

// The browser reports the 401 of /v1/me before the login.
function checkProblems(page) {
  assert.deepEqual(page.problems.filter((text) => !/401.*\/v1\/me\)$/.test(text)), []);
}
