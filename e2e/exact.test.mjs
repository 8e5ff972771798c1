// The streams of recipes.md that a page already knows: curl prints the very bytes that
// the page shows, in front of an app without streams.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Documents } from './lib/documents.mjs';
import { Program, finished, until } from './lib/program.mjs';
import { exactStreams } from './lib/recipe.mjs';
import { Caddy, freePorts } from './lib/site.mjs';

const app = await Documents.start();
const [port] = await freePorts(1);
const url = `http://localhost:${port}`;
const recipes = await exactStreams();
// Polls are so rare that only a write can show a change in time.
const rules = Object.values(recipes).map(({ rule }) => rule.replace(/\bpoll \w+ \{/, 'poll 1h {')).join('');
const caddy = await Caddy.start(`{
	admin off
	auto_https off
	default_bind 127.0.0.1
}
http://localhost:${port} {
${rules}
	reverse_proxy ${app.address}
}
`, { url, env: { NOTIFY_TOKEN: 's3cret' } });
after(async () => {
  await caddy.stop();
  await app.close();
});

const ask = async (method, path, body, headers = {}) => {
  const { status } = await fetch(url + path, { method, body: body && JSON.stringify(body), headers });
  assert.ok(status < 300, `${method} ${path} got ${status}`);
};
const put = (path, document) => () => ask('PUT', path, document);
const send = (chunk, end) => async () => {
  await until('the app is asked for the list', () => app.lists.length === 1);
  if (end) app.lists[0].end(chunk);
  else app.lists[0].write(chunk);
};
const notify = (type, message) => () => ask('POST', '/api/notify', { userId: 'ann', type, message }, { 'x-notify-token': 's3cret' });
const say = (text) => () => ask('POST', '/rooms/lobby', { text }, { 'content-type': 'application/json', authorization: `Basic ${btoa('bob:secret2')}` });

const miso = { petId: 2, name: 'Miso', score: 0.91, reason: 'you like cats' };
const pepper = { petId: 3, name: 'Pepper', score: 0.8, reason: 'others bought it' };
const recommended = (items, done = false) => ({ items, done, elapsed: 850 });
const order = (status, minute, more) => ({ id: 17, status, timestamp: `2026-11-27T10:00:0${minute}Z`, ...more });
const pets = (stock, price) => ({ pets: [{ id: 1, name: 'Biscuit', stock, price }, { id: 2, name: 'Miso', stock: 7, price: 85 }] });
const price = (now) => ({ price: now, symbol: 'ACME', volume: 1000 });
const video = (progress) => ({ videoId: 'v7', codec: 'av1', progress });

// Each has the changes and how many events follow each; the first number is of those
// that come at once. A viewer who comes late begins with all events, the last, or none.
const streams = {
  'Recommendations from a list in chunks': {
    path: '/v1/recommendations', counts: [0, 1, 1, 1], late: 'all', ends: true,
    changes: [send(JSON.stringify(miso)), send(`,${JSON.stringify(pepper)}`), send(']', true)],
  },
  'Recommendations from a document that grows': {
    path: '/recommendations/ann', counts: [0, 1, 1, 1], late: 'all', ends: true, begin: recommended([]),
    changes: [recommended([miso]), recommended([miso, pepper]), recommended([miso, pepper], true)],
  },
  'Status of an order': {
    path: '/orders/17/status', counts: [1, 1, 1], late: 'last', ends: true, begin: order('payment_processing', 0),
    changes: [order('preparing_shipment', 7), order('shipped', 9, { trackingNumber: 'DHL-17' })],
  },
  'Changes of the inventory': {
    path: '/inventory', counts: [0, 1, 2], late: 'none', begin: pets(5, 120), changes: [pets(4, 120), pets(3, 99.5)],
  },
  'A price each second': {
    path: '/prices/ACME', counts: [1, 1], late: 'last', begin: price(100.25), changes: [price(100.5)],
  },
  'Progress of a video': {
    path: '/videos/v7/progress', counts: [1, 1, 2], late: 'last', ends: true, begin: video(0), changes: [video(40), video(100)],
  },
  'Notifications with any type': {
    path: '/notifications', user: 'ann:secret1', counts: [0, 1, 1], late: 'none',
    changes: [notify('info', 'Your export is ready.'), notify('error', 'Your card was declined.')],
  },
  'A chat with history': {
    path: '/rooms/lobby', user: 'ann:secret1', counts: [0, 1, 1], late: 'all', changes: [say('Anybody here?'), say('Hello?')],
  },
};

test('every such stream of the page is tested', () => {
  assert.deepEqual(Object.keys(streams).sort(), Object.keys(recipes).sort());
});

for (const [heading, { path, user, counts, late, ends, begin, changes }] of Object.entries(streams)) {
  test(`${heading}: curl prints what the page shows`, async (t) => {
    const blocks = recipes[heading].bytes.split(/(?<=\n\n)/);
    const curl = async (wanted, position) => {
      const headers = ['Accept: text/event-stream', ...(position ? [`Last-Event-ID: ${position}`] : [])];
      const program = new Program('curl', ['-sN', ...(user ? ['-u', user] : []), ...headers.flatMap((header) => ['-H', header]), url + path]);
      t.after(() => program.stop());
      await until('the stream begins', () => program.stdout.includes('retry: '));
      const viewer = { program, wanted: '' };
      await shows(viewer, wanted);
      return viewer;
    };
    if (begin) await put(path, begin)();
    let sent = counts[0];
    const stays = await curl(blocks.slice(0, sent));
    const leaves = await curl(blocks.slice(0, sent));
    const viewers = [stays];
    for (const [i, change] of changes.entries()) {
      await (typeof change === 'function' ? change : put(path, change))();
      const next = blocks.slice(sent, sent += counts[i + 1]);
      for (const viewer of i === 0 ? [...viewers, leaves] : viewers) await shows(viewer, next);
      if (i === 0) await leaves.program.stop();
      if (i < changes.length - 1) viewers.push(await curl({ all: blocks.slice(0, sent), last: blocks.slice(sent - 1, sent), none: [] }[late]));
    }
    assert.equal(sent, blocks.length, 'the page shows other events, too');
    const position = leaves.program.stdout.match(/^id: .*$/gm).at(-1).slice('id: '.length);
    await curl(blocks.slice(counts[0] + counts[1]), position);
    if (!ends) return;
    const last = stays.program.stdout.match(/^id: .*$/gm).at(-1).slice('id: '.length);
    for (const { program } of viewers) await until('the stream ends', () => !program.isRunning);
    const { stdout } = await finished('curl', ['-s', '-w', '%{http_code}', '-H', 'Accept: text/event-stream', '-H', `Last-Event-ID: ${last}`, url + path]);
    assert.equal(stdout, '204');
  });
}

test('an order that is shipped already gives complete alone, and then 204', async () => {
  const path = '/orders/18/status';
  await put(path, order('shipped', 9, { trackingNumber: 'DHL-17' }))();
  const ask = (...headers) => finished('curl', ['-s', '-w', '%{http_code}', '-H', 'Accept: text/event-stream', ...headers, url + path]);
  const { stdout } = await ask();
  assert.equal(withoutVolatile(stdout), 'event: complete\ndata: {"status":"shipped","trackingNumber":"DHL-17"}\n\n200');
  const [, id] = stdout.match(/^id: (.*)$/m);
  assert.equal((await ask('-H', `Last-Event-ID: ${id}`)).stdout, '204');
});

// shows waits until a viewer has further blocks, and fails on any other bytes.
async function shows(viewer, blocks) {
  viewer.wanted += blocks.join('');
  const printed = () => withoutVolatile(viewer.program.stdout);
  await until('the stream prints the events', () => printed().length >= viewer.wanted.length).catch(() => {});
  assert.equal(printed(), viewer.wanted);
}

// withoutVolatile leaves out ids, retry and positions without an event, and gives a
// measured time the page's value.
function withoutVolatile(text) {
  return text.replace(/^(?:retry|id): .*\n/gm, '')
    .replace(/(^|\n\n)\n+/g, '$1')
    .replace(/"processingTime":\d+/, '"processingTime":850');
}
