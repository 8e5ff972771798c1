import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { finished } from './lib/program.mjs';
import { Caddy, freePorts } from './lib/site.mjs';

// The folder of a black-box conformance suite for servers of event streams.
const suite = process.env.SSE_CONFORMANCE;

const caddyfile = ({ http, https, admin, upstream }) => `{
	admin 127.0.0.1:${admin}
	default_bind 127.0.0.1
	local_certs
	skip_install_trust
	auto_https disable_redirects
}

http://127.0.0.1:${http}, https://localhost:${https} {
	sse /hooks/* {
		webhook {
			verify none
			topic {path.1}
			event {query.event}
			id {query.id}
			max_body 8MiB
		}
	}

	@topic path_regexp ^/events/[^/]+$
	sse @topic {
		topic {path.1}
		allow *
		heartbeat 1s
		cors https://app.example
	}

	rewrite /relay/* /up/{path.1}
	sse /up/* {
		relay {
			share
			detach 2s
		}
	}
	reverse_proxy /up/* 127.0.0.1:${upstream}

	@other not path_regexp ^/(hooks|events|up)/[^/]+$
	respond @other 404
}
`;

const config = ({ http, https, upstream }) => ({
  name: 'caddy-sse',
  baseUrl: `http://127.0.0.1:${http}`,
  tlsUrl: `https://localhost:${https}`,
  subscribe: { path: '/events/{topic}', lastEventIdQuery: ['lastEventId', 'last_event_id'] },
  publish: {
    method: 'POST',
    path: '/hooks/{topic}?event={event}&id={id}',
    headers: { 'Content-Type': 'text/plain; charset=utf-8' },
    body: 'raw',
    okStatus: [202],
    maxBodyBytes: 4194304,
  },
  receive: { extract: 'raw' },
  expect: { gapEvent: 'reset', acceptMismatch: [406], invalidUtf8: 'reject' },
  cors: { allowedOrigin: 'https://app.example', disallowedOrigin: 'https://evil.example', credentials: true },
  relay: { originPort: upstream, originPath: '/up/{topic}', subscribePath: '/relay/{topic}', reconnectMs: 10000, shared: true, idleStops: true },
});

test('topics and relays conform to the standard of event streams', { skip: !suite && 'SSE_CONFORMANCE names no suite' }, async (t) => {
  const [http, https, admin, upstream] = await freePorts(4);
  const ports = { http, https, admin, upstream };
  const caddy = await Caddy.start(caddyfile(ports), { url: `http://127.0.0.1:${http}` });
  t.after(() => caddy.stop());
  const [configFile, resultFile] = ['conformance.json', 'result.json'].map((name) => join(caddy.folder, name));
  await writeFile(configFile, JSON.stringify(config(ports)));
  const { stdout, stderr } = await finished(process.execPath, ['run.mjs', '--config', configFile, '--json', resultFile], { cwd: suite });
  const result = JSON.parse(await readFile(resultFile, 'utf8').catch(() => assert.fail(stdout + stderr)));
  const named = (verdict) => result.checks.filter((check) => check.verdict === verdict).map(({ name, note }) => ({ name, note }));
  t.diagnostic(`${result.passed} passed, ${result.failed} failed, ${result.skipped} skipped`);
  // A response that is no stream passes as it comes. The suite reads a page as if it
  // were an event stream; an EventSource refuses it by its Content-Type.
  assert.deepEqual(named('FAIL').filter(({ name }) => name !== 'relay.upstream-html-is-not-relayed'), []);
  // Here a subscription to topics never ends and needs no login, and the heartbeat
  // is no comment: clients.test.mjs looks at it.
  assert.deepEqual(named('SKIP').map(({ name }) => name).sort(), ['http.auth-required', 'http.heartbeat', 'http.stop-204']);
});
