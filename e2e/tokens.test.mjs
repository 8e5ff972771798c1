// The page of examples/tokens, and what it survives.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { launch, open, screenshot } from './lib/browser.mjs';
import { Gate } from './lib/gate.mjs';
import { Program, responds, root, until } from './lib/program.mjs';
import { Caddy, freePorts } from './lib/site.mjs';

const [http, https, backend, admin] = await freePorts(4);
const server = new Program(join(root, '.build/tokens'), ['-listen', `127.0.0.1:${backend}`, '-pace', '50ms']);
await responds(server, `http://127.0.0.1:${backend}/v1/models`);
const toServer = await Gate.open(backend);
const ports = { 8080: http, 8443: https, 9001: new URL(toServer.url).port, 2029: admin };
const shipped = await readFile(join(root, 'examples/tokens/Caddyfile'), 'utf8');
const caddyfile = shipped.replace(/\b(8080|8443|9001|2029)\b/g, (port) => ports[port]);
const caddy = await Caddy.start(caddyfile, { url: `http://localhost:${http}` });
const gate = await Gate.open(http);
const browser = await launch();
after(async () => {
  await browser.close();
  gate.close();
  await caddy.stop();
  toServer.close();
  await server.stop();
});

const answer = (page) => page.locator('#answer').textContent();
const asked = () => toServer.requests.filter((text) => text.startsWith('POST ')).length;
const words = async (page, count) => until(`${count} words`, async () => (await answer(page)).split(' ').length >= count);
const complete = (page) => page.locator('#state[data-state="complete"]').waitFor();

test('an answer survives a cut, a reload of Caddy, a reload of the page, and comes to a second tab', async () => {
  const page = await open(browser, gate.url);
  await page.getByLabel('Question').fill('Are you there?');
  await page.getByRole('button', { name: 'Ask' }).click();
  await words(page, 10);
  gate.cut();
  await words(page, 25);
  await caddy.reload(`${caddyfile}# changed\n`);
  await words(page, 40);
  const second = await page.context().newPage();
  await second.goto(gate.url);
  await page.reload();
  await complete(page);
  await complete(second);
  const text = await answer(page);
  assert.match(text, /^You asked: “Are you there\?”\n\nI am a stand-in, .* And my server was asked once\.$/s);
  assert.equal(await answer(second), text);
  assert.equal(asked(), 1);

  await second.getByLabel('Question').fill('And now?');
  await second.getByRole('button', { name: 'Ask' }).click();
  await page.locator('#answer', { hasText: 'And now?' }).waitFor();
  await complete(page);
  await screenshot(page, 'tokens');
  assert.equal(asked(), 2);
  await page.context().close();
});
