// What clients make of the bytes between events.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EventSource } from 'eventsource';
import { launch, open } from './lib/browser.mjs';
import { Gate } from './lib/gate.mjs';
import { Program, root, until } from './lib/program.mjs';
import { Caddy, freePorts } from './lib/site.mjs';
import { Subscriber } from './lib/subscriber.mjs';

const [http, admin] = await freePorts(2);
const url = `http://localhost:${http}`;
const caddy = await Caddy.start(`{
	admin 127.0.0.1:${admin}
	default_bind 127.0.0.1
}

http://localhost:${http} {
	sse /hooks {
		webhook {
			verify none
			topic news
			event {query.event}
		}
	}
	sse /events {
		topic news
		heartbeat 1s ping
	}
	sse /quiet {
		topic news
		heartbeat 1s
	}
	handle / {
		header Content-Type text/html
		respond "<!doctype html>"
	}
}
`, { url });
after(() => caddy.stop());

const publish = async (n, event = '') => {
  const response = await fetch(`${url}/hooks?event=${event}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ n }) });
  assert.equal(response.status, 202);
};
const received = [['message', 1], ['patch', 2], ['message', 3]];

test('an idle stream repeats its own retry, and nothing else', async (t) => {
  const streams = [1, 2].map(() => new Program('curl', ['-sN', `${url}/quiet`]));
  t.after(() => Promise.all(streams.map((stream) => stream.stop())));
  for (const stream of streams) {
    await until('three heartbeats', () => stream.stdout.split('\n').length > 4);
    const lines = stream.stdout.trimEnd().split('\n');
    assert.match(lines[0], /^retry: \d+$/);
    assert.deepEqual(lines, lines.map(() => lines[0]));
  }
  assert.notEqual(streams[0].stdout.split('\n')[0], streams[1].stdout.split('\n')[0]);
});

test('heartbeats are no events for the library eventsource, and change none', async (t) => {
  for (const [path, events] of [['/quiet', ['patch']], ['/events', ['patch']]]) {
    const subscriber = new Subscriber(url + path, { events });
    t.after(() => subscriber.close());
    await subscriber.open();
    for (const [type, n] of received) {
      await sleep(1500);
      await publish(n, type === 'message' ? '' : type);
    }
    await subscriber.until('all events', () => subscriber.received.length >= received.length);
    await sleep(1500);
    assert.deepEqual(subscriber.received.map(({ type, data }) => [type, data.n]), received);
    assert.ok(subscriber.received.every(({ id }) => id));
  }
});

test('heartbeats are no events for a browser unless they have a name', async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const page = await open(browser, url);
  await page.evaluate(() => Promise.all(['/quiet', '/events'].map((path) => new Promise((resolve) => {
    const list = (window[path] = []);
    const source = new EventSource(path);
    source.onopen = resolve;
    for (const type of ['message', 'patch', 'ping']) {
      source.addEventListener(type, ({ data, lastEventId }) => list.push([type, JSON.parse(data).n ?? null, lastEventId]));
    }
  }))));
  for (const [type, n] of received) {
    await sleep(1500);
    await publish(n, type === 'message' ? '' : type);
  }
  await sleep(1500);
  const [quiet, named] = await page.evaluate(() => [window['/quiet'], window['/events']]);
  assert.deepEqual(quiet.map(([type, n]) => [type, n]), received);
  assert.deepEqual(named.filter(([type]) => type !== 'ping').map(([type, n]) => [type, n]), received);
  const pings = named.filter(([type]) => type === 'ping');
  assert.ok(pings.length >= 4, `${pings.length} pings`);
  assert.equal(named[0][2], '', 'a heartbeat before the first event has no id');
});

test('the watchdog of wire.md opens another stream when the network is silent, and misses nothing', async (t) => {
  const text = await readFile(join(root, 'docs', 'wire.md'), 'utf8');
  const [script] = text.match(/(?<=```js\n)let source, timer[^]*?(?=```)/);
  assert.equal(script.split('40_000').length, 3);
  const gate = await Gate.open(http);
  t.after(() => gate.close());
  class PageSource extends EventSource {
    constructor(path) { super(new URL(path, gate.url)); }
  }
  const shown = [];
  const page = new Function('EventSource', 'show', `${script.replaceAll('40_000', '3_000')}
    return () => { clearTimeout(timer); source.close(); };`);
  t.after(page(PageSource, (data) => shown.push(JSON.parse(data).n)));
  const streams = () => gate.requests.filter((request) => request.startsWith('GET /events'));
  await until('the stream opens', () => streams().length === 1);
  await sleep(5000);
  assert.equal(streams().length, 1, 'a stream with pings is replaced');
  await publish(1);
  await until('the page has the first event', () => shown.length === 1);
  for (const socket of gate.sockets) socket.pause(); // nothing arrives any more, and nothing ends
  await publish(2);
  await until('the page has the second event', () => shown.length === 2);
  assert.equal(streams().length, 2);
  assert.match(streams()[1], /^GET \/events\?last_event_id=[\w-]+ /);
  assert.deepEqual(shown, [1, 2]);
});
