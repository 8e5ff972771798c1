import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch } from './lib/browser.mjs';
import { PHP, phpFPM } from './lib/php.mjs';
import { finished, until } from './lib/program.mjs';
import { recipe } from './lib/recipe.mjs';
import { Caddy, freePorts } from './lib/site.mjs';

describe('in front of PHP', { skip: !phpFPM && 'php-fpm is missing' }, () => {
  let php, caddy, browser, url;

  before(async () => {
    const [https, http] = await freePorts(2);
    url = `https://localhost:${https}`;
    php = await PHP.start(['shop.php']);
    // Polls are so rare that only a write can show a change in time.
    caddy = await Caddy.start(await recipe('PHP', {
      'https://localhost:8443': `${url}, http://localhost:${http}`,
      '/srv/shop/public': php.public,
      'unix//run/php/php-fpm.sock': `unix/${php.socket}`,
      'poll 10s': 'poll 1h',
    }), { url: `http://localhost:${http}` });
    await until('Caddy has a certificate', async () => (await finished('curl', ['-sk', url])).code === 0);
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await caddy?.stop();
    await php?.stop();
  });

  // Customer is a browser with its own cookies.
  class Customer {
    static async arrive(t) {
      const customer = new Customer();
      const context = await browser.newContext({ ignoreHTTPSErrors: true });
      t.after(() => context.close());
      customer.context = context;
      customer.page = await context.newPage();
      const network = await context.newCDPSession(customer.page);
      await network.send('Network.enable');
      customer.streams = [];
      network.on('Network.responseReceived', ({ response }) => {
        if (response.mimeType === 'text/event-stream') customer.streams.push(response);
      });
      await customer.page.goto(`${url}/shop.php`);
      return customer;
    }

    static async login(t, user) {
      const customer = await Customer.arrive(t);
      assert.deepEqual(await customer.post({ user }), 200);
      return customer;
    }

    post(form) {
      return this.page.evaluate(async (body) => (await fetch('/shop.php', { method: 'POST', body: new URLSearchParams(body) })).status, form);
    }

    subscribe() {
      return this.page.evaluate(() => {
        window.received = [];
        window.source = new EventSource('/shop.php');
        source.onmessage = ({ data }) => received.push({ ...JSON.parse(data), at: performance.now() });
        return new Promise((resolve) => { source.onopen = resolve; }).then(() => undefined);
      });
    }

    async got(count) {
      await this.page.waitForFunction((n) => window.received.length >= n, count);
      return this.page.evaluate(() => received.map(({ user, cart, stock }) => ({ user, cart, stock })));
    }
  }

  test('a purchase shows at once over HTTP/2, and each customer receives their own cart', async (t) => {
    const [alice, bob] = await Promise.all(['alice', 'bob'].map((user) => Customer.login(t, user)));
    await Promise.all([alice.subscribe(), bob.subscribe()]);
    await Promise.all([alice.got(1), bob.got(1)]);
    assert.equal(await alice.post({ item: 'tea' }), 200);
    await Promise.all([alice.got(2), bob.got(2)]);
    assert.equal(await bob.post({ item: 'tea' }), 200);
    const stocks = [2, 1, 0].map((tea) => ({ tea, coffee: 5 }));
    const carts = { alice: [[], ['tea'], ['tea']], bob: [[], [], ['tea']] };
    for (const [user, customer] of Object.entries({ alice, bob })) {
      assert.deepEqual(await customer.got(3), stocks.map((stock, i) => ({ user, cart: carts[user][i], stock })));
      assert.deepEqual(customer.streams.map(({ protocol }) => protocol), ['h2']);
    }
    assert.equal(await alice.post({ item: 'tea' }), 409, 'it is sold out');
    const delay = await alice.page.evaluate(async () => {
      const started = performance.now();
      await fetch('/shop.php', { method: 'POST', body: new URLSearchParams({ item: 'coffee' }) });
      while (received.length < 4) await new Promise(requestAnimationFrame);
      return received[3].at - started;
    });
    t.diagnostic(`from the POST to the event: ${delay.toFixed(0)} ms; polled every hour`);
    assert.deepEqual((await alice.got(4)).at(-1), { user: 'alice', cart: ['tea', 'coffee'], stock: { tea: 0, coffee: 4 } });
  });

  test('a client without a session gets PHP\'s refusal without a session cookie', async (t) => {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    t.after(() => context.close());
    for (const accept of ['text/event-stream', 'application/json']) {
      const response = await context.request.get(`${url}/shop.php`, { headers: { accept } });
      assert.equal(response.status(), 401);
      assert.deepEqual(await response.json(), { error: 'not logged in' });
      assert.equal('set-cookie' in response.headers(), accept === 'application/json');
      await context.clearCookies();
    }
  });

  test('a logout in one tab ends the stream in another', async (t) => {
    const carol = await Customer.login(t, 'carol');
    await carol.subscribe();
    await carol.got(1);
    const other = await carol.context.newPage();
    await other.goto(`${url}/shop.php`);
    assert.equal((await (await other.request.get(`${url}/shop.php`)).json()).user, 'carol');
    await other.evaluate(() => fetch('/shop.php', { method: 'POST', body: new URLSearchParams({ logout: '' }) }));
    await carol.page.waitForFunction(() => source.readyState === EventSource.CLOSED);
    assert.equal((await carol.got(1)).length, 1);
  });
});
