// A page in Chromium with more live URLs than a browser has connections over HTTP/1.1.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, test } from 'node:test';
import { launch, open } from './lib/browser.mjs';
import { Caddy, freePorts } from './lib/site.mjs';

const counts = new Map();
const backend = createServer((request, response) => {
  if (request.url === '/v1/secret') return response.writeHead(403).end();
  const count = counts.get(request.url) ?? 0;
  if (request.method === 'POST') {
    counts.set(request.url, count + 1);
    return response.writeHead(204).end();
  }
  return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ count }));
});

const [port, behind, admin] = await freePorts(3);
await new Promise((resolve) => backend.listen(behind, '127.0.0.1', resolve));
const url = `http://localhost:${port}`;
const caddyfile = (version) => `{
	admin localhost:${admin}
	default_bind 127.0.0.1
	sse {
		drain 100ms
	}
}
${url} {
	header X-Version ${version}
	sse /live {
		multiplex
		retry 100ms
	}
	sse /v1/* {
		poll 1h
	}
	handle / {
		header Content-Type text/html
		respond "<!doctype html><title>live</title><link rel=icon href=data:,>"
	}
	reverse_proxy 127.0.0.1:${behind}
}
`;
const caddy = await Caddy.start(caddyfile(1), { url });
const browser = await launch();
after(async () => {
  await browser.close();
  await caddy.stop();
  backend.closeAllConnections();
  backend.close();
});

test('over HTTP/1.1 one EventSource has twelve live URLs, also after a reload', async () => {
  const page = await open(browser, url);
  const urls = Array.from({ length: 12 }, (_, i) => `/v1/items/${i}`);
  await page.evaluate((all) => {
    window.received = {};
    window.source = new EventSource(`/live?${new URLSearchParams(all.map((one) => ['url', one]))}`);
    window.source.onmessage = (message) => {
      const { url: of, event = 'message', data } = JSON.parse(message.data);
      (window.received[of] ??= []).push([event, data]);
    };
  }, [...urls, '/v1/secret']);
  await page.waitForFunction(() => Object.keys(window.received).length === 13);
  assert.deepEqual(await page.evaluate(() => window.received['/v1/secret']), [['refused', { status: 403, reason: 'Forbidden' }]]);
  const write = async (path, times) => {
    for (let i = 0; i < times; i++) assert.equal((await fetch(url + path, { method: 'POST' })).status, 204);
  };
  const shows = (path, count) => page.waitForFunction(([of, n]) => window.received[of].at(-1)[1].count === n, [path, count]);
  await write('/v1/items/7', 1); // a connection is left for it
  await shows('/v1/items/7', 1);
  await caddy.reload(caddyfile(2));
  await page.waitForFunction(() => window.source.readyState === EventSource.OPEN);
  await write('/v1/items/3', 1);
  await write('/v1/items/11', 1);
  await shows('/v1/items/3', 1);
  await shows('/v1/items/11', 1);
  const received = await page.evaluate(() => window.received);
  assert.deepEqual(received['/v1/items/0'], [['message', { count: 0 }]]);
  assert.equal(received['/v1/secret'].length, 1);
  assert.deepEqual(page.problems, []);
  await page.context().close();
});
