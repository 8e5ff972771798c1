import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Site, replaced } from './lib/site.mjs';
import { Subscriber } from './lib/subscriber.mjs';
import { Sender } from './lib/webhooks.mjs';

// Polls are so rare that only a write can show a change in time.
const site = await Site.start({
  edit: (text) => replaced(text, 'poll 1s', 'poll 60s'),
  flags: ['-step', '1h'],
});
after(() => site.stop());
await site.restock();

const idsOf = (subscriber) => new Set(subscriber.received.flatMap(({ data }) => data.orders.map((order) => order.id)));

test('two users with streams of the same URL never receive each other\'s orders', async (t) => {
  const users = await Promise.all(['alice', 'bob'].map(async (name) => {
    const cookie = await site.login(name);
    return { cookie, own: new Set(), subscriber: new Subscriber(`${site.url}/v1/orders`, { headers: { cookie } }) };
  }));
  t.after(() => users.forEach(({ subscriber }) => subscriber.close()));
  await Promise.all(users.map(({ subscriber }) => subscriber.event('the first document', () => true)));
  for (let round = 0; round < 5; round++) {
    await Promise.all(users.map(async ({ cookie, own }) => own.add((await site.order(cookie)).id)));
  }
  for (const { subscriber, own } of users) {
    await subscriber.until('all orders', () => idsOf(subscriber).size >= own.size);
  }
  for (const { subscriber, own } of users) assert.deepEqual(idsOf(subscriber), own);
});

test('a client without a session gets the backend\'s 401 instead of a stream', async () => {
  const headers = { accept: 'text/event-stream' };
  for (const path of ['/v1/orders', '/v1/notifications']) {
    const response = await fetch(site.url + path, { headers });
    assert.equal(response.status, 401);
    assert.deepEqual(await response.json(), { error: 'not logged in' });
  }
});

test('an order through Caddy shows in the stream long before the next poll', async (t) => {
  const cookie = await site.login('carol');
  const subscriber = new Subscriber(`${site.url}/v1/orders`, { headers: { cookie } });
  t.after(() => subscriber.close());
  await subscriber.event('the first document', () => true);
  const delays = [];
  for (let i = 0; i < 15; i++) {
    const started = performance.now();
    const { id } = await site.order(cookie);
    const { at } = await subscriber.event('the order', ({ data }) => data.orders.some((order) => order.id === id));
    delays.push(at - started);
  }
  delays.sort((a, b) => a - b);
  t.diagnostic(`from the request to the event: median ${delays[7].toFixed(1)} ms, longest ${delays[14].toFixed(1)} ms; polled every 60 s`);
  assert.ok(delays[7] < 1000, `the median is ${delays[7]} ms`);
});

test('a client that forges the user\'s header receives only its own notifications', async (t) => {
  const cookie = await site.login('alice');
  const sender = new Sender(site);
  const forger = new Subscriber(`${site.url}/v1/notifications`, {
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

test('a client without a session gets no notifications by a forged header', async () => {
  const headers = { accept: 'text/event-stream', 'x-user-id': 'alice' };
  assert.equal((await fetch(`${site.url}/v1/notifications`, { headers })).status, 401);
});

test('a webhook signed with a wrong secret is refused and not published', async (t) => {
  const cookie = await site.login('dave');
  const subscriber = new Subscriber(`${site.url}/v1/notifications`, { headers: { cookie }, events: ['order.test'] });
  t.after(() => subscriber.close());
  await subscriber.open();
  const forger = new Sender({ url: site.url, secret: 'guessed' });
  await assert.rejects(forger.send('msg_forged', 'dave', {}), /got 401/);
  await new Sender(site).send('msg_true', 'dave', {});
  await subscriber.event('the true one', () => true);
  assert.deepEqual(subscriber.received.map(({ id }) => id), ['msg_true']);
});
