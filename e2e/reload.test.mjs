import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { launch, open } from './lib/browser.mjs';
import { Gate } from './lib/gate.mjs';
import { Site, replaced } from './lib/site.mjs';
import { Subscriber } from './lib/subscriber.mjs';
import { Sender } from './lib/webhooks.mjs';

const withDrain = (text, drain) => replaced(text, '{\n', `{\n\tsse {\n\t\tdrain ${drain}\n\t}\n`);
const start = () => Site.start({ edit: (text) => withDrain(text, '1s') });

const site = await start();
after(() => site.stop());
const sender = new Sender(site);
const notifications = (url, cookie) => new Subscriber(`${url}/v1/notifications`, { headers: { cookie }, events: ['order.test', 'reset'] });

test('two reloads under load neither lose nor repeat an event', async (t) => {
  const cookie = await site.login('alice');
  const subscribers = [1, 2, 3].map(() => notifications(site.url, cookie));
  t.after(() => subscribers.forEach((subscriber) => subscriber.close()));
  await Promise.all(subscribers.map((subscriber) => subscriber.open()));

  const load = { sent: 0, continues: true };
  const sending = (async () => {
    while (load.continues) await sender.send(`msg_load_${load.sent}`, 'alice', { n: load.sent++ });
  })();
  for (const [drain, opened] of [['1100ms', 2], ['1200ms', 3]]) {
    await site.caddy.reload(replaced(site.caddyfile, 'drain 1s', `drain ${drain}`));
    await Promise.all(subscribers.map((subscriber) => subscriber.until('the client is back', () => subscriber.opened >= opened)));
  }
  load.continues = false;
  await sending;

  const sent = Array.from({ length: load.sent }, (_, n) => `msg_load_${n}`);
  for (const subscriber of subscribers) {
    await subscriber.event('the last event', ({ id }) => id === sent.at(-1));
    assert.deepEqual(subscriber.received.map(({ id }) => id), sent);
  }
  t.diagnostic(`${sent.length} events, 3 clients, each moved twice: each received every event once, in order`);
});

test('a browser that has received no event yet misses none while it moves', async (t) => {
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
  assert.equal(await page.evaluate(() => window.dropped), 0, 'EventSource gave up');
  await sender.send('msg_meanwhile', 'bob', {});
  await page.waitForFunction(() => window.received.length > 0);
  await sender.send('msg_afterwards', 'bob', {});
  await page.waitForFunction(() => window.received.length > 1);
  assert.deepEqual(await page.evaluate(() => window.received), ['msg_meanwhile', 'msg_afterwards']);
});

test('a client reconnects after a broken connection and receives the missed events', async (t) => {
  const cookie = await site.login('carol');
  const gate = await Gate.open(site.ports[8080]);
  t.after(() => gate.close());
  const subscriber = notifications(gate.url, cookie);
  t.after(() => subscriber.close());
  await subscriber.open();
  await sender.send('msg_1', 'carol', {});
  await subscriber.event('the first event', ({ id }) => id === 'msg_1');
  gate.cut();
  for (const id of ['msg_2', 'msg_3']) await sender.send(id, 'carol', {});
  await subscriber.until('the client is back', () => subscriber.opened === 2);
  await sender.send('msg_4', 'carol', {});
  await subscriber.event('the last event', ({ id }) => id === 'msg_4');
  assert.match(gate.requests.at(-1), /^last-event-id: msg_1\r$/im);
  assert.deepEqual(subscriber.received.map(({ id }) => id), ['msg_1', 'msg_2', 'msg_3', 'msg_4']);
});

test('Caddy exits within two seconds with a hundred open streams', async (t) => {
  const ending = await start();
  t.after(() => ending.stop());
  const cookie = await ending.login('alice');
  const paths = ['/v1/inventory', '/v1/orders', '/v1/notifications', '/v1/recommendations'];
  const subscribers = Array.from({ length: 100 }, (_, i) => new Subscriber(ending.url + paths[i % paths.length], { headers: { cookie } }));
  t.after(() => subscribers.forEach((subscriber) => subscriber.close()));
  await Promise.all(subscribers.map((subscriber) => subscriber.open()));
  const started = performance.now();
  const code = await ending.caddy.program.stop('SIGTERM');
  const took = performance.now() - started;
  t.diagnostic(`it took ${took.toFixed(0)} ms`);
  assert.equal(code, 0);
  assert.ok(took < 2000, `it took ${took} ms`);
});
