// Clients of language models read a POST's stream that is relayed, from a stand-in
// for such a server.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { fetchEventSource } from '@microsoft/fetch-event-source';
import { streamText } from 'ai';
import { EventSource } from 'eventsource';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import OpenAI from 'openai';
import { Gate } from './lib/gate.mjs';
import { until } from './lib/program.mjs';
import { Caddy, freePorts } from './lib/site.mjs';

const words = Array.from({ length: 40 }, (_, i) => `word${i} `);
const text = words.join('');
let requests = [];

// A server that speaks OpenAI's format: chunks without names, and [DONE].
const model = createServer(async (request, response) => {
  let body = '';
  for await (const part of request) body += part;
  requests.push({ body, accept: request.headers.accept });
  if (!JSON.parse(body).stream) {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ choices: [{ index: 0, message: { role: 'assistant', content: text }, finish_reason: 'stop' }] }));
    return;
  }
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
  const chunk = (delta, finish_reason = null) => `data: ${JSON.stringify({ id: 'c1', object: 'chat.completion.chunk', created: 1, model: 'm1', choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
  response.write(chunk({ role: 'assistant', content: '' }));
  for (const content of words) {
    response.write(chunk({ content }));
    await sleep(10);
  }
  response.end(`${chunk({}, 'stop')}data: [DONE]\n\n`);
});
const [http, admin] = await freePorts(2);
await new Promise((resolve) => model.listen(0, '127.0.0.1', resolve));
const caddyfile = (comment = '') => `{
	admin 127.0.0.1:${admin}
	default_bind 127.0.0.1
	sse {
		drain 1s
	}
}

http://localhost:${http} {
	${comment}
	sse /v1/* {
		relay
	}
	reverse_proxy /v1/* 127.0.0.1:${model.address().port}
	respond / "up"
}
`;
const url = `http://localhost:${http}`;
const caddy = await Caddy.start(caddyfile(), { url });
after(async () => {
  await caddy.stop();
  model.close();
  model.closeAllConnections();
});
beforeEach(() => { requests = []; });

const question = { model: 'm1', messages: [{ role: 'user', content: 'hello' }], stream: true };
const ask = (base, headers = {}) => fetch(`${base}/v1/chat/completions`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(question) });
const contentOf = (data) => JSON.parse(data).choices[0].delta.content ?? '';

test('openai reads the relayed stream, and a response that is none', async () => {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'k' });
  let got = '';
  for await (const chunk of await client.chat.completions.create(question)) got += chunk.choices[0].delta.content ?? '';
  assert.equal(got, text);
  assert.match(requests[0].accept, /application\/json/);
  const whole = await client.chat.completions.create({ ...question, stream: false });
  assert.equal(whole.choices[0].message.content, text);
});

test('ai reads the relayed stream', async () => {
  const provider = createOpenAICompatible({ name: 'stand-in', baseURL: `${url}/v1` });
  const errors = [];
  const { textStream } = streamText({ model: provider('m1'), prompt: 'hello', onError: ({ error }) => errors.push(error) });
  let got = '';
  for await (const part of textStream) got += part;
  assert.deepEqual(errors, []);
  assert.equal(got, text);
});

test('eventsource-parser reads the relayed stream', async () => {
  const response = await ask(url, { accept: 'text/event-stream' });
  const events = [];
  for await (const event of response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream())) events.push(event);
  assert.equal(events.at(-1).data, '[DONE]');
  assert.equal(events.slice(0, -1).map(({ data }) => contentOf(data)).join(''), text);
  assert.ok(events.every(({ id, event }) => id.startsWith('relay.') && event === undefined));
});

test('fetch-event-source survives a cut with one request to the server', async (t) => {
  const gate = await Gate.open(http);
  t.after(() => gate.close());
  globalThis.window ??= globalThis; // it is written for browsers
  globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} };
  const data = [];
  let cuts = 0;
  await fetchEventSource(`${gate.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(question),
    openWhenHidden: true,
    onmessage(event) {
      if (event.data) data.push(event.data);
      if (data.length === 10 || data.length === 25) {
        cuts++;
        gate.cut();
      }
    },
    onclose() { // a reload ends a response, too, and Node takes some cuts for such an end
      if (data.at(-1) !== '[DONE]') throw new Error('the stream has not ended');
    },
    onerror: () => 20,
  });
  assert.equal(cuts, 2);
  assert.equal(data.at(-1), '[DONE]');
  assert.equal(data.slice(0, -1).map(contentOf).join(''), text);
  assert.equal(requests.length, 1);
});

test('EventSource resumes a POST over a reload of Caddy', async (t) => {
  const response = await ask(url, { accept: 'text/event-stream' });
  const where = new URL(response.headers.get('content-location'), url);
  await response.body.cancel();
  const source = new EventSource(where);
  t.after(() => source.close());
  const data = [];
  source.onmessage = (event) => data.push(event.data);
  await until('events of the resumed stream', () => data.length > 5);
  await caddy.reload(caddyfile('# changed'));
  await until('the 204 after the end', () => source.readyState === EventSource.CLOSED);
  assert.equal(data.slice(0, -1).map(contentOf).join(''), text);
  assert.equal(requests.length, 1);
});
