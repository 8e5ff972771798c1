import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Program, finished, root, until } from './lib/program.mjs';
import { Site } from './lib/site.mjs';

const site = await Site.start();
after(() => site.stop());

test('curl prints the inventory at once, and a change made directly at the backend after the next poll', async (t) => {
  for (const [url, flags] of [[site.url, []], [site.secureUrl, ['--http2', '--cacert', site.caddy.certificate]]]) {
    const curl = new Program('curl', ['-sN', ...flags, '-H', 'Accept: text/event-stream', `${url}/v1/inventory`]);
    t.after(() => curl.stop());
    const prints = (text) => until(`curl prints ${text}`, () => curl.stdout.includes(text));
    const stock = url === site.url ? 41 : 43;
    const started = performance.now();
    await prints('data: {"pets":[');
    const atOnce = performance.now();
    await fetch(`${site.backendUrl}/v1/inventory/1`, { method: 'PATCH', body: `{"stock":${stock}}` });
    await prints(`"stock":${stock}`);
    t.diagnostic(`${url.split(':')[0]}: the document after ${ms(atOnce - started)}, the change after ${ms(performance.now() - atOnce)} with an interval of 2 s`);
  }
});

test('the curl commands that the demo prints work', async (t) => {
  const script = site.onOwnPorts(await readFile(join(root, 'xcaddy.sh'), 'utf8'));
  const [stream, change, changeDirectly, ...more] = script.match(/^ {2}curl .*/gm).map((line) => line.trim());
  assert.deepEqual(more, []);
  const streaming = new Program('bash', ['-c', `exec ${stream}`]);
  t.after(() => streaming.stop());
  const prints = (text) => until(`curl prints ${text}`, () => streaming.stdout.includes(text));
  await prints('data: {"pets":[');
  for (const [line, stock] of [[change, 42], [changeDirectly, 7]]) {
    const { code, stdout, stderr } = await finished('bash', ['-c', line]);
    assert.equal(code, 0, stderr);
    assert.equal(JSON.parse(stdout).stock, stock);
    await prints(`"id":1,"name":"Biscuit","kind":"dog","emoji":"🐕","stock":${stock},`);
  }
});

test('curl gets the backend\'s own response if it does not ask for a stream', async () => {
  const [through, directly] = await Promise.all([site.url, site.backendUrl].map((url) => finished('curl', ['-s', `${url}/v1/inventory`])));
  assert.equal(through.stdout, directly.stdout);
});

const ms = (millis) => `${millis.toFixed(0)} ms`;
