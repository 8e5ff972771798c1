// Tests of the recipes that need only Caddy, the petstore and Alertmanager.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Alertmanager, alertmanager } from './lib/alertmanager.mjs';
import { launch } from './lib/browser.mjs';
import { Jobs } from './lib/jobs.mjs';
import { until } from './lib/program.mjs';
import { wholeRecipe } from './lib/recipe.mjs';
import { Caddy, freePorts, startPetstore } from './lib/site.mjs';
import { Terminal } from './lib/terminal.mjs';
import { Transmission } from './lib/transmission.mjs';

const passwords = { u1: 'secret1', u2: 'secret2', ann: 'secret1', bob: 'secret2', team: 'secret1' };
const basic = (user) => `Basic ${Buffer.from(`${user}:${passwords[user]}`).toString('base64')}`;

const started = new WeakMap();

// atEnd stops what a test has started, in reverse order: a server waits at its end
// for connections that a browser, or Caddy, keeps open.
function atEnd(t, stop) {
  if (!started.has(t)) {
    started.set(t, []);
    t.after(async () => {
      const failures = [];
      for (const end of started.get(t).reverse()) await end().catch((error) => failures.push(error));
      assert.deepEqual(failures, []);
    });
  }
  started.get(t).push(stop);
}

describe('recipes', () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(() => browser?.close());

  // start starts Caddy with a recipe's Caddyfile.
  async function start(t, heading, { env = {}, replacements = {}, port } = {}) {
    port ??= (await freePorts(1))[0];
    const url = `http://localhost:${port}`;
    const recipe = { url, ...await wholeRecipe(heading, { 'http://localhost:8080': url, ...replacements }) };
    const caddy = await Caddy.start(recipe.caddyfile, { env, url });
    atEnd(t, () => caddy.stop());
    return recipe;
  }

  // withPetstore starts a recipe in front of a shop that changes nothing by itself.
  // Polls are so rare that only a write or a webhook can show a change in time.
  async function withPetstore(t, heading, poll, { env = {}, flags = () => [] } = {}) {
    const [port, shop] = await freePorts(2);
    const petstore = await startPetstore(shop, { env, flags: ['-shop', '0', '-webhook', '', ...flags(`http://localhost:${port}`)] });
    atEnd(t, () => petstore.stop());
    return start(t, heading, { env, port, replacements: { 'localhost:9001': `localhost:${shop}`, [poll]: 'poll 1h' } });
  }

  async function openTerminal(t) {
    const terminal = await Terminal.open();
    atEnd(t, () => terminal.close());
    return terminal;
  }

  // show opens the recipe's page as if the site served it, and waits for its
  // stream, so that the page receives all later events.
  async function show(t, { url, page: html }, { as, cookies = [], streams = true } = {}) {
    const context = await browser.newContext({ httpCredentials: as && { username: as, password: passwords[as] } });
    const problems = [];
    atEnd(t, async () => {
      await context.close();
      assert.deepEqual(problems, []);
    });
    await context.addCookies(cookies.map((cookie) => ({ ...cookie, url })));
    const page = await context.newPage();
    page.setDefaultTimeout(10_000);
    page.on('pageerror', (error) => problems.push(String(error)));
    await page.route(`${url}/`, (route) => route.fulfill({ contentType: 'text/html; charset=utf-8', body: html }));
    await Promise.all([streams && opens(page), page.goto(`${url}/`)]);
    return page;
  }

  const opens = (page) => page.waitForResponse((response) => response.headers()['content-type'] === 'text/event-stream');

  // lists waits until an element's children have these texts.
  const lists = (page, selector, texts) => page.waitForFunction(([where, wanted]) => {
    const found = [...document.querySelector(where).children].map(({ innerText }) => innerText);
    return JSON.stringify(found) === wanted;
  }, [selector, JSON.stringify(texts)]).catch(async () => {
    assert.deepEqual(await page.locator(`${selector} > *`).allInnerTexts(), texts);
  });

  const post = (url, body, headers = {}) => fetch(url, { method: 'POST', body, headers }).then(({ status }) => status);

  test('notifications: each user receives their own, and nobody receives forged ones', async (t) => {
    const recipe = await start(t, 'Notifications per user', { env: { NOTIFY_TOKEN: 's3cret' } });
    const [first, second] = await Promise.all(['u1', 'u2'].map((as) => show(t, recipe, { as })));
    const terminal = await openTerminal(t);
    await terminal.type(recipe.session);
    await lists(first, '#notifications', ['Your export is ready.']);
    await terminal.printsAll();
    const notify = (notification, token) => post(`${recipe.url}/api/notify`, JSON.stringify(notification), { 'X-Notify-Token': token });
    assert.equal(await notify({ userId: 'u2', type: 'info', message: 'forged' }, 's3cres'), 401);
    assert.equal(await notify({ type: 'info', message: 'without a user' }, 's3cret'), 422);
    assert.equal(await notify({ userId: 'u2', type: 'warning', message: 'For you alone.' }, 's3cret'), 202);
    await lists(second, '#notifications', ['For you alone.']);
    assert.equal(await second.locator('.warning').count(), 1);
    assert.equal(await notify({ userId: 'u1', type: 'info', message: 'And for you.' }, 's3cret'), 202);
    await lists(first, '#notifications', ['Your export is ready.', 'And for you.']);
    await terminal.prints('And for you.');
    assert.ok(!terminal.printed.includes('For you alone'), 'a stream has another user\'s notification');
    for (const headers of [{}, { Authorization: `Basic ${btoa('u1:secret2')}` }]) {
      assert.equal((await fetch(`${recipe.url}/notifications`, { headers })).status, 401);
    }
  });

  test('live prices: a changed price is an event, a changed stock is not', async (t) => {
    const recipe = await withPetstore(t, 'Live prices', 'poll 2s');
    const page = await show(t, recipe);
    const others = ['Biscuit 120.00', 'Bubbles 12.50', 'Hazel 18.90', 'Kiwi 210.00', 'Miso 85.00', 'Pepper 32.50', 'Sheldon 64.00', 'Spike 47.00'];
    await lists(page, '#prices', others);
    const terminal = await openTerminal(t);
    await terminal.type(recipe.session);
    await lists(page, '#prices', others.map((text) => text.replace('12.50', '9.50')));
    assert.equal(await page.locator('.down').innerText(), 'Bubbles 9.50');
    await terminal.printsAll();
  });

  test('inventory: a restock and an order change the page', async (t) => {
    const recipe = await withPetstore(t, 'Inventory', 'poll 2s');
    const page = await show(t, recipe);
    const stands = (id, count) => page.locator(`#pet-${id} td`, { hasText: new RegExp(`^${count}$`) }).waitFor();
    await stands(1, 5);
    const hazels = Number(await page.locator('#pet-7 td').innerText());
    const terminal = await openTerminal(t);
    await terminal.type(recipe.session);
    await Promise.all([stands(1, 42), stands(7, hazels - 1)]);
    assert.equal(await page.locator('#stock tr').count(), 8);
    await terminal.printsAll();
  });

  test('order status: each step shows at once, and only to the customer', async (t) => {
    const recipe = await withPetstore(t, 'Order status', 'poll 60s', {
      env: { PETSTORE_WEBHOOK_SECRET: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' },
      flags: (url) => ['-webhook', `${url}/hooks/petstore`, '-step', '1s'],
    });
    const session = async (user) => {
      const response = await fetch(`${recipe.url}/v1/login`, { method: 'POST', body: new URLSearchParams({ user }) });
      const [name, value] = response.headers.get('set-cookie').split(';')[0].split('=');
      return { name, value };
    };
    const [alice, bob] = await Promise.all(['alice', 'bob'].map(async (user) => show(t, recipe, { cookies: [await session(user)] })));
    const terminal = await openTerminal(t);
    await terminal.type(recipe.session);
    for (const status of ['payment processing', 'payment confirmed', 'preparing shipment', 'shipped']) {
      await lists(alice, '#orders', [`Hazel: ${status}`]);
    }
    await terminal.printsAll();
    assert.equal(await bob.locator('#orders li').count(), 0);
    assert.equal(await post(`${recipe.url}/hooks/petstore`, '{"data":{"orderId":"o-1"}}'), 401);
    const refused = await fetch(`${recipe.url}/v1/orders`, { headers: { accept: 'text/event-stream' } });
    assert.equal(refused.status, 401);
  });

  test('progress of a long job: the bar finishes, and a client that reconnects gets 204', async (t) => {
    const jobs = await Jobs.start();
    atEnd(t, () => jobs.close());
    const recipe = await start(t, 'Progress of a long job', { replacements: { 'localhost:9001': jobs.address } });
    const terminal = await openTerminal(t);
    await terminal.type(recipe.session);
    const page = await show(t, recipe, { streams: false });
    await Promise.all([opens(page), page.locator('#start').click()]);
    for (const [done, percent, state] of [[2, 40, 'running'], [5, 100, 'done']]) {
      jobs.advance(done);
      await page.waitForFunction(([value, word]) => bar.value === value && state.value === word, [percent, state]);
      await terminal.prints(`"percent":${percent}`);
    }
    await terminal.printsAll();
    assert.equal(await terminal.ends(), 0, 'the stream ends by itself');
    const id = terminal.printed.match(/^id: (.*)\nevent: complete$/m)[1];
    const again = await fetch(`${recipe.url}/jobs/1`, { headers: { accept: 'text/event-stream', 'last-event-id': id } });
    assert.equal(again.status, 204);
  });

  test('JSON-RPC: a plain EventSource follows what Transmission answers by POST', async (t) => {
    const transmission = await Transmission.start();
    atEnd(t, () => transmission.close());
    const recipe = await start(t, 'JSON-RPC', { replacements: { 'localhost:9091': transmission.address } });
    const terminal = await openTerminal(t);
    await terminal.type(recipe.session);
    const page = await show(t, recipe);
    await lists(page, '#downloads', ['debian-13.iso: 25 %']);
    transmission.torrents[0].percentDone = 1;
    await lists(page, '#downloads', ['debian-13.iso: 100 %']);
    const headers = { 'X-Transmission-Session-Id': 'PgFy8f4qCVpgiSHR' };
    const body = JSON.stringify({ method: 'torrent-remove', arguments: { ids: [1] } });
    assert.equal((await fetch(`${recipe.url}/transmission/rpc`, { method: 'POST', body })).status, 409, 'the handshake is the page\'s');
    assert.equal((await fetch(`${recipe.url}/transmission/rpc`, { method: 'POST', headers, body })).status, 200);
    await lists(page, '#downloads', []);
    await terminal.printsAll();
    assert.ok(transmission.handshakes > 0);
  });

  test('chat: everyone receives each message, under the authenticated name', async (t) => {
    const recipe = await start(t, 'Chat');
    const [ann, bob] = await Promise.all(['ann', 'bob'].map((as) => show(t, recipe, { as })));
    const terminal = await openTerminal(t);
    await terminal.type(recipe.session);
    await lists(ann, '#said', ['bob: Anybody here?']);
    await terminal.printsAll();
    const json = { 'content-type': 'application/json' };
    assert.equal(await post(`${recipe.url}/chat`, '{"text":"no login"}', json), 401);
    const form = { authorization: basic('bob'), 'content-type': 'text/plain' };
    assert.equal(await post(`${recipe.url}/chat`, '{"text":"from another site"}', form), 405);
    await ann.locator('#say input').fill('ann is, bob: who else?');
    await ann.keyboard.press('Enter');
    for (const page of [ann, bob]) await lists(page, '#said', ['bob: Anybody here?', 'ann: ann is, bob: who else?']);
    assert.equal(await ann.locator('#say input').inputValue(), '');
  });

  test('GitHub: a signed delivery shows once in the team\'s feed, an unsigned one never', async (t) => {
    const secret = 'its-a-secret';
    const recipe = await start(t, 'A team\'s GitHub events', { env: { GITHUB_SECRET: secret } });
    const page = await show(t, recipe, { as: 'team' });
    const terminal = await openTerminal(t);
    await terminal.type(recipe.session);
    await lists(page, '#feed', ['ann/shop: bob · issues opened · It rains in']);
    await terminal.printsAll();
    const send = (event, id, payload, key = secret) => {
      const body = JSON.stringify({ repository: { full_name: 'ann/shop' }, sender: { login: 'ann' }, ...payload });
      return post(`${recipe.url}/hooks/github`, body, {
        'content-type': 'application/json', 'x-github-event': event, 'x-github-delivery': id,
        'x-hub-signature-256': `sha256=${createHmac('sha256', key).update(body).digest('hex')}`,
      });
    };
    const push = { ref: 'refs/heads/main', head_commit: { message: 'Mend the roof' } };
    assert.equal(await send('push', 'forged', push, 'another secret'), 401);
    assert.deepEqual([await send('push', 'delivery-2', push), await send('push', 'delivery-2', push)], [202, 202]);
    assert.equal(await send('pull_request', 'delivery-3', { action: 'closed', pull_request: { title: 'A gutter' } }), 202);
    await lists(page, '#feed', [
      'ann/shop: ann · pull_request closed · A gutter',
      'ann/shop: ann · push refs/heads/main · Mend the roof',
      'ann/shop: bob · issues opened · It rains in',
    ]);
    assert.equal((await fetch(`${recipe.url}/team`)).status, 401);
  });

  test('alerts: an alert shows while it fires, and is sent once', { skip: !alertmanager && 'Alertmanager is missing' }, async (t) => {
    const [port] = await freePorts(1);
    const address = `localhost:${port}`;
    const recipe = await start(t, 'Alerts', {
      env: { ALERTS_TOKEN: 's3cret' },
      replacements: { 'localhost:9093': address, 'group_interval: 10s': 'group_interval: 1s' },
    });
    const backend = await Alertmanager.start(`127.0.0.1:${port}`, recipe.yaml);
    atEnd(t, () => backend.stop());
    const page = await show(t, recipe);
    const terminal = await openTerminal(t);
    await terminal.type(recipe.session.slice(0, 2));
    await lists(page, '#alerts', ['DiskFull · db1 · 5 % left']);
    const late = await show(t, recipe);
    await lists(late, '#alerts', ['DiskFull · db1 · 5 % left']);
    await terminal.type(recipe.session.slice(2));
    for (const screen of [page, late]) await lists(screen, '#alerts', []);
    await terminal.printsAll();
    // With the second of a group Alertmanager sends the first again.
    for (const instance of ['web1', 'web2']) {
      await backend.post({ labels: { alertname: 'Slow', instance }, annotations: { summary: '9 s' } });
      await terminal.prints(`"instance":"${instance}"`);
    }
    await lists(page, '#alerts', ['Slow · web1 · 9 s', 'Slow · web2 · 9 s']);
    assert.equal(terminal.printed.match(/web1/g).length, 1, 'the alert is sent once');
    assert.equal(await post(`${recipe.url}/hooks/alerts`, '{"alerts":[]}', { authorization: 'Bearer s3cres' }), 401);
    await post(`${recipe.url}/api/v2/alerts`, '[{"labels":{"alertname":"Forged"}}]', { 'content-type': 'application/json' });
    const known = await (await fetch(`${recipe.url}/api/v2/alerts`)).json();
    assert.deepEqual(known.map(({ labels }) => labels.alertname), ['Slow', 'Slow']);
  });
});
