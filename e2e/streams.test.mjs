import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Site, replaced } from './lib/site.mjs';
import { Watcher } from './lib/watcher.mjs';
import { Sender } from './lib/webhooks.mjs';

// What is polled is polled so rarely that only a write can make it show.
const site = await Site.start({
  edit: (text) => replaced(text, 'poll 1s', 'poll 60s'),
  flags: ['-step', '1h'],
});
after(() => site.stop());
await site.restock();

const idsOf = (watcher) => new Set(watcher.received.flatMap(({ data }) => data.orders.map((order) => order.id)));

test('two users who watch the same URL never get each other\'s orders', async (t) => {
  const users = await Promise.all(['alice', 'bob'].map(async (name) => {
    const cookie = await site.login(name);
    return { cookie, own: new Set(), watcher: new Watcher(`${site.url}/v1/orders`, { headers: { cookie } }) };
  }));
  t.after(() => users.forEach(({ watcher }) => watcher.close()));
  await Promise.all(users.map(({ watcher }) => watcher.event('the first document', () => true)));
  for (let round = 0; round < 5; round++) {
    await Promise.all(users.map(async ({ cookie, own }) => own.add((await site.order(cookie)).id)));
  }
  for (const { watcher, own } of users) {
    await watcher.until('all orders', () => idsOf(watcher).size >= own.size);
  }
  for (const { watcher, own } of users) assert.deepEqual(idsOf(watcher), own);
});

test('a stream of orders is refused to one who is not logged in, as the orders are', async () => {
  const headers = { accept: 'text/event-stream' };
  for (const path of ['/v1/orders', '/v1/notifications']) {
    const response = await fetch(site.url + path, { headers });
    assert.equal(response.status, 401);
    assert.deepEqual(await response.json(), { error: 'not logged in' });
  }
});

test('an order that is placed through Caddy shows in the stream long before the next poll', async (t) => {
  const cookie = await site.login('carol');
  const watcher = new Watcher(`${site.url}/v1/orders`, { headers: { cookie } });
  t.after(() => watcher.close());
  await watcher.event('the first document', () => true);
  const delays = [];
  for (let i = 0; i < 15; i++) {
    const begun = performance.now();
    const { id } = await site.order(cookie);
    const { at } = await watcher.event('the order', ({ data }) => data.orders.some((order) => order.id === id));
    delays.push(at - begun);
  }
  delays.sort((a, b) => a - b);
  t.diagnostic(`from the request to the event: median ${delays[7].toFixed(1)} ms, longest ${delays[14].toFixed(1)} ms; polled every 60 s`);
  assert.ok(delays[7] < 1000, `the median is ${delays[7]} ms`);
});

test('a client that says that it is somebody else gets its own notifications, and no others', async (t) => {
  const cookie = await site.login('alice');
  const sender = new Sender(site);
  const forger = new Watcher(`${site.url}/v1/notifications`, {
    headers: { cookie, 'x-user-id': 'bob', 'X-User-ID': 'bob' },
    events: ['order.test'],
  });
  t.after(() => forger.close());
  await forger.open();
  await sender.send('msg_to_bob', 'bob', { secret: true });
  await sender.send('msg_to_alice', 'alice', {});
  await forger.event('the notification of alice', () => true);
  assert.deepEqual(forger.received.map(({ id, data }) => [id, data]), [['msg_to_alice', { userId: 'alice' }]]);
});

test('one who is nobody gets no notifications by a header', async () => {
  const headers = { accept: 'text/event-stream', 'x-user-id': 'alice' };
  assert.equal((await fetch(`${site.url}/v1/notifications`, { headers })).status, 401);
});

test('a webhook that is not signed with the secret is refused and published to nobody', async (t) => {
  const cookie = await site.login('dave');
  const watcher = new Watcher(`${site.url}/v1/notifications`, { headers: { cookie }, events: ['order.test'] });
  t.after(() => watcher.close());
  await watcher.open();
  const forger = new Sender({ url: site.url, secret: 'guessed' });
  await assert.rejects(forger.send('msg_forged', 'dave', {}), /answered with 401/);
  await new Sender(site).send('msg_true', 'dave', {});
  await watcher.event('the true one', () => true);
  assert.deepEqual(watcher.received.map(({ id }) => id), ['msg_true']);
});
