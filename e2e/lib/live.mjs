// Puts Caddy, with a Caddyfile of docs/works-with.md, in front of a real program.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Program, responds } from './program.mjs';
import { recipe } from './recipe.mjs';
import { Caddy, freePorts } from './site.mjs';
import { Subscriber } from './subscriber.mjs';

// Polls are so rare that only a write can show a change in time.
export const rarely = 'poll 1h';
export const often = 'poll 100ms';

// live starts a program in a folder of its own, and Caddy in front of it. start
// returns the program's command line, and a path that responds when it is up.
export async function live(t, heading, address, poll, start, { env } = {}) {
  const [port] = await freePorts(1);
  const folder = await temporary(t);
  const { command, args, ready, millis, ...options } = await start(port, folder);
  const program = new Program(command, args, { cwd: folder, ...options });
  t.after(() => program.stop());
  await responds(program, `http://127.0.0.1:${port}${ready}`, (response) => response?.status < 500, millis);
  const url = await serve(t, heading, { [address]: `127.0.0.1:${port}`, 'poll 2s': poll }, { env });
  return { url, folder, port };
}

// serve starts Caddy with the Caddyfile of a section, and returns its URL.
export async function serve(t, heading, replacements, { env, page = 'works-with.md' } = {}) {
  const [own] = await freePorts(1);
  const url = `http://localhost:${own}`;
  const caddy = await Caddy.start(await recipe(heading, { 'http://localhost:8080': url, ...replacements }, page), { url, env });
  t.after(() => caddy.stop());
  return url;
}

export async function temporary(t) {
  const folder = await mkdtemp(join(tmpdir(), 'caddy-sse-works-with-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export function subscribe(t, url, { events = [], headers } = {}) {
  const subscriber = new Subscriber(url, { events: ['stale', ...events], headers });
  t.after(() => subscriber.close());
  return subscriber;
}

// follow reads a stream whose documents are no JSON.
export async function follow(t, url, headers) {
  const giveUp = new AbortController();
  const response = await fetch(url, { headers: { ...headers, accept: 'text/event-stream' }, signal: giveUp.signal });
  assert.equal(response.headers.get('content-type'), 'text/event-stream', `${response.status}`);
  t.after(() => giveUp.abort());
  const stream = { text: '' };
  (async () => { for await (const piece of response.body.pipeThrough(new TextDecoderStream())) stream.text += piece; })().catch(() => {});
  return stream;
}

// call makes a request with a body of JSON, and returns the response's text.
export const call = (url, method, body, headers) =>
  request(url, method, body === undefined ? undefined : JSON.stringify(body), { 'content-type': 'application/json', ...headers });

export async function request(url, method, body, headers = {}) {
  const response = await fetch(url, { method, headers, body });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${url}: ${response.status} ${text}`);
  return text;
}

export const eventsOf = (subscriber) => subscriber.received.map(({ type, data }) => [type, data]);
