// What clients make of compressed streams, over each protocol.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { launch, open } from './lib/browser.mjs';
import { Gate } from './lib/gate.mjs';
import { Program, until } from './lib/program.mjs';
import { Caddy, freePorts } from './lib/site.mjs';
import { Subscriber } from './lib/subscriber.mjs';

const [http, https, admin] = await freePorts(3);
const url = `http://localhost:${http}`;
const secureUrl = `https://localhost:${https}`;
const caddy = await Caddy.start(`{
	admin 127.0.0.1:${admin}
	default_bind 127.0.0.1
	skip_install_trust
	http_port ${http}
	https_port ${https}
}

(site) {
	# It must not compress what the rules have compressed.
	encode {
		zstd
		gzip
		match {
			header Content-Type *
		}
	}
	sse /publish {
		publish {
			token secret
		}
	}
	sse /events {
		topic news
		encode gzip
		heartbeat 1s
	}
	sse /short {
		topic news
		encode gzip
		retry 50ms
		max_age 2s
	}
	handle / {
		header Content-Type text/html
		respond "<!doctype html>"
	}
}

http://localhost:${http} {
	import site
}

https://localhost:${https} {
	tls internal
	import site
}
`, { url });
after(() => caddy.stop());

let published = 0;

// publish publishes numbered events, small and large ones in turn.
async function publish(count) {
  const lines = Array.from({ length: count }, () => {
    const n = ++published;
    return JSON.stringify({ topic: 'news', data: { n, text: 'the same text '.repeat(n % 3 === 0 ? 150 : n % 3) } });
  });
  const response = await fetch(`${url}/publish`, {
    method: 'POST',
    headers: { authorization: 'Bearer secret', 'content-type': 'application/x-ndjson' },
    body: lines.join('\n'),
  });
  assert.equal(response.status, 200, await response.text());
}

const many = 900;

// publishTo publishes one event, which must arrive before the next one comes, then
// many, and then one again.
async function publishTo(received) {
  const first = published + 1;
  for (const count of [1, 1, many, 1]) {
    await publish(count);
    await until(`event ${published}`, async () => (await received()).at(-1) === published);
  }
  assert.deepEqual(await received(), range(first, published));
}

const numbers = (text) => [...text.matchAll(/^data: {"n":(\d+),/gm)].map(([, n]) => Number(n));
const range = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

for (const [protocol, flags] of [['HTTP/1.1', []], ['HTTP/2', ['--http2', '--cacert', caddy.certificate]]]) {
  test(`curl decompresses each event when it comes, over ${protocol}`, async (t) => {
    const base = protocol === 'HTTP/2' ? secureUrl : url;
    const stream = new Program('curl', ['-sNv', '--compressed', ...flags, `${base}/events`]);
    t.after(() => stream.stop());
    await until('the stream opens', () => stream.stdout.startsWith('retry:'));
    assert.match(stream.stderr, /^< content-encoding: gzip/im);
    assert.match(stream.stderr, /^< vary: accept-encoding/im);
    assert.equal(stream.stderr.match(/^< content-encoding/gim).length, 1);
    let text = '';
    stream.child.stdout.on('data', (more) => { text += more; });
    await publishTo(() => numbers(text));
    await until('three heartbeats', () => /(retry: \d+\n){3}$/.test(stream.stdout));
  });

  test(`curl sees the end of a compressed stream, over ${protocol}`, async () => {
    const stream = new Program('curl', ['-sN', '--compressed', ...flags, `${protocol === 'HTTP/2' ? secureUrl : url}/short`]);
    await publish(1);
    assert.equal(await stream.ended, 0);
  });
}

test('a client that asks for no compression gets none', async (t) => {
  const stream = new Program('curl', ['-sNv', `${url}/events`]);
  t.after(() => stream.stop());
  await until('the stream opens', () => stream.stdout.startsWith('retry:'));
  assert.doesNotMatch(stream.stderr, /content-encoding/i);
  assert.match(stream.stderr, /^< vary: accept-encoding/im);
});

test('fetch of Node reads a compressed stream to its end', async () => {
  const response = await fetch(`${url}/short`);
  assert.equal(response.headers.get('content-encoding'), 'gzip');
  const first = published + 1;
  await publish(many);
  assert.deepEqual(numbers(await response.text()), range(first, published));
});

test('the library eventsource misses nothing when compressed streams end or are cut', async (t) => {
  const gate = await Gate.open(http);
  t.after(() => gate.close());
  const subscriber = new Subscriber(`${gate.url}/short`);
  t.after(() => subscriber.close());
  await subscriber.open();
  const first = published + 1;
  for (let round = 0; round < 60; round++) {
    await publish(5);
    await sleep(100);
    if (round % 20 === 10) gate.cut();
  }
  await subscriber.event('the last event', ({ data }) => data.n === published);
  assert.deepEqual(subscriber.received.map(({ data }) => data.n), range(first, published));
  assert.ok(subscriber.opened > 4, `${subscriber.opened} streams`);
});

// pin returns the hash of the site's key, by which Chromium accepts its certificate
// over QUIC.
function pin() {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: https, host: '127.0.0.1', servername: 'localhost', rejectUnauthorized: false }, () => {
      const key = socket.getPeerX509Certificate().publicKey.export({ type: 'spki', format: 'der' });
      resolve(createHash('sha256').update(key).digest('base64'));
      socket.destroy();
    }).on('error', reject);
  });
}

const browsers = [
  ['http/1.1', url, async () => ['--disable-quic']],
  ['h2', secureUrl, async () => ['--disable-quic']],
  ['h3', secureUrl, async () => [`--origin-to-force-quic-on=localhost:${https}`, '--host-resolver-rules=MAP localhost 127.0.0.1', `--ignore-certificate-errors-spki-list=${await pin()}`]],
];
for (const [protocol, base, flags] of browsers) {
  test(`Chromium reads compressed streams, over ${protocol}`, async (t) => {
    const browser = await launch(await flags());
    t.after(() => browser.close());
    const page = await open(browser, base);
    await page.evaluate(() => {
      window.received = { source: [], reader: [], short: [] };
      for (const [path, name] of [['/events', 'source'], ['/short', 'short']]) {
        new EventSource(path).onmessage = ({ data }) => received[name].push(JSON.parse(data).n);
      }
      return fetch('/events').then((response) => {
        window.coding = response.headers.get('content-encoding');
        (async () => {
          let rest = '';
          for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
            const lines = (rest + text).split('\n');
            rest = lines.pop();
            for (const line of lines) if (line.startsWith('data: ')) received.reader.push(JSON.parse(line.slice(6)).n);
          }
        })();
      });
    });
    assert.equal(await page.evaluate(() => coding), 'gzip');
    const first = published + 1;
    for (const name of ['source', 'reader', 'short']) await publishTo(async () => (await page.evaluate((name) => received[name], name)).slice(-(many + 3)));
    await sleep(2500); // in which the stream of /short ends
    await publish(10);
    for (const name of ['source', 'reader', 'short']) {
      const received = () => page.evaluate((name) => received[name], name);
      await until(`all events of ${name}`, async () => (await received()).at(-1) === published);
      assert.deepEqual(await received(), range(first, published));
    }
    const used = await page.evaluate(() => performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol).filter(Boolean));
    assert.ok(used.length > 0 && used.every((name) => name === protocol), `${used}`);
  });
}
