import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { launch, open } from './lib/browser.mjs';
import { Gate } from './lib/gate.mjs';
import { Site, replaced } from './lib/site.mjs';
import { Watcher } from './lib/watcher.mjs';
import { Sender } from './lib/webhooks.mjs';

const withDrain = (text, drain) => replaced(text, '{\n', `{\n\tsse {\n\t\tdrain ${drain}\n\t}\n`);
const start = () => Site.start({ edit: (text) => withDrain(text, '1s') });

const site = await start();
after(() => site.stop());
const sender = new Sender(site);
const notifications = (url, cookie) => new Watcher(`${url}/v1/notifications`, { headers: { cookie }, events: ['order.test', 'reset'] });

test('two reloads under load lose nothing and double nothing', async (t) => {
  const cookie = await site.login('alice');
  const watchers = [1, 2, 3].map(() => notifications(site.url, cookie));
  t.after(() => watchers.forEach((watcher) => watcher.close()));
  await Promise.all(watchers.map((watcher) => watcher.open()));

  const load = { sent: 0, goesOn: true };
  const sending = (async () => {
    while (load.goesOn) await sender.send(`msg_load_${load.sent}`, 'alice', { n: load.sent++ });
  })();
  for (const [drain, opened] of [['1100ms', 2], ['1200ms', 3]]) {
    await site.caddy.reload(replaced(site.caddyfile, 'drain 1s', `drain ${drain}`));
    await Promise.all(watchers.map((watcher) => watcher.until('it is back', () => watcher.opened >= opened)));
  }
  load.goesOn = false;
  await sending;

  const sent = Array.from({ length: load.sent }, (_, n) => `msg_load_${n}`);
  for (const watcher of watchers) {
    await watcher.event('the last event', ({ id }) => id === sent.at(-1));
    assert.deepEqual(watcher.received.map(({ id }) => id), sent);
  }
  t.diagnostic(`${sent.length} events, 3 clients, each moved twice: all of them, once, in order`);
});

test('a browser that had received nothing yet misses nothing that is published while it moves', async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const page = await open(browser, `${site.url}/v1/inventory`);
  await page.evaluate(() => fetch('/v1/login', { method: 'POST', body: new URLSearchParams({ user: 'bob' }) }));
  await page.evaluate(() => new Promise((resolve) => {
    window.received = [];
    const source = new EventSource('/v1/notifications');
    source.addEventListener('order.test', (event) => window.received.push(event.lastEventId));
    source.onopen = resolve;
    window.dropped = new Promise((drop) => { source.onerror = () => drop(source.readyState); });
  }));
  await site.caddy.reload(replaced(site.caddyfile, 'drain 1s', 'drain 1300ms'));
  assert.equal(await page.evaluate(() => window.dropped), 0, 'EventSource has given up');
  await sender.send('msg_meanwhile', 'bob', {});
  await page.waitForFunction(() => window.received.length > 0);
  await sender.send('msg_afterwards', 'bob', {});
  await page.waitForFunction(() => window.received.length > 1);
  assert.deepEqual(await page.evaluate(() => window.received), ['msg_meanwhile', 'msg_afterwards']);
});

test('a client whose connection is cut comes back by itself and gets what it has missed', async (t) => {
  const cookie = await site.login('carol');
  const gate = await Gate.open(site.ports[8080]);
  t.after(() => gate.close());
  const watcher = notifications(gate.url, cookie);
  t.after(() => watcher.close());
  await watcher.open();
  await sender.send('msg_1', 'carol', {});
  await watcher.event('the first event', ({ id }) => id === 'msg_1');
  gate.cut();
  for (const id of ['msg_2', 'msg_3']) await sender.send(id, 'carol', {});
  await watcher.until('it is back', () => watcher.opened === 2);
  await sender.send('msg_4', 'carol', {});
  await watcher.event('the last event', ({ id }) => id === 'msg_4');
  assert.match(gate.requests.at(-1), /^last-event-id: msg_1\r$/im);
  assert.deepEqual(watcher.received.map(({ id }) => id), ['msg_1', 'msg_2', 'msg_3', 'msg_4']);
});

test('a hundred open streams don\'t keep Caddy from ending within two seconds', async (t) => {
  const ending = await start();
  t.after(() => ending.stop());
  const cookie = await ending.login('alice');
  const paths = ['/v1/inventory', '/v1/orders', '/v1/notifications', '/v1/recommendations'];
  const watchers = Array.from({ length: 100 }, (_, i) => new Watcher(ending.url + paths[i % paths.length], { headers: { cookie } }));
  t.after(() => watchers.forEach((watcher) => watcher.close()));
  await Promise.all(watchers.map((watcher) => watcher.open()));
  const begun = performance.now();
  const code = await ending.caddy.program.stop('SIGTERM');
  const took = performance.now() - begun;
  t.diagnostic(`it took ${took.toFixed(0)} ms`);
  assert.equal(code, 0);
  assert.ok(took < 2000, `it took ${took} ms`);
});
