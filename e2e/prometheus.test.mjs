import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { until } from './lib/program.mjs';
import { Exporter, Prometheus, prometheus } from './lib/prometheus.mjs';
import { recipe } from './lib/recipe.mjs';
import { Caddy, freePorts } from './lib/site.mjs';
import { Subscriber } from './lib/subscriber.mjs';

describe('in front of Prometheus', { skip: !prometheus && 'Prometheus is missing' }, () => {
  let exporter, backend, caddy, url;

  before(async () => {
    const [port, own] = await freePorts(2);
    exporter = await Exporter.start({ 'shop_orders{status="open"}': 7, 'shop_orders{status="late"}': 0 });
    backend = await Prometheus.start(port, { shop: exporter.address });
    url = `http://localhost:${own}`;
    caddy = await Caddy.start(await recipe('Prometheus', {
      'http://localhost:8080': url,
      'localhost:9090': backend.address,
    }), { url });
    // It starts to scrape some seconds after its start.
    await until('Prometheus has scraped', async () => (await backend.query('up == 1')).length === 2);
  });
  after(async () => {
    await caddy?.stop();
    await backend?.stop();
    await exporter?.close();
  });

  const query = (expression) => `${url}/api/v1/query?${new URLSearchParams({ query: expression })}`;

  function subscribe(t, path, options = {}) {
    const subscriber = new Subscriber(path, { ...options, events: ['changed', 'added', 'removed', 'up', 'down', 'stale'] });
    t.after(() => subscriber.close());
    return subscriber;
  }

  const eventsOf = (subscriber) => subscriber.received.map(({ type, data }) => [type, data]);
  const series = (status, value) => ({
    series: `shop_orders ${exporter.address} shop ${status}`,
    labels: { __name__: 'shop_orders', instance: exporter.address, job: 'shop', status },
    value,
  });

  const change = (old, item) => ({ key: old.series, item, old });

  test('a query\'s stream has the document, then one event for each changed series', async (t) => {
    const subscribers = ['a', 'b'].map((who) => subscribe(t, query('shop_orders'), { headers: { cookie: `grafana_session=${who}` } }));
    await Promise.all(subscribers.map((subscriber) => subscriber.event('the document', ({ type }) => type === 'message')));
    exporter.gauges['shop_orders{status="late"}'] = 1;
    await Promise.all(subscribers.map((subscriber) => subscriber.event('the change', ({ type }) => type === 'changed')));
    exporter.gauges['shop_orders{status="open"}'] = 6.5;
    for (const subscriber of subscribers) {
      await subscriber.event('the other change', ({ data }) => data.item?.value === '6.5');
      const [late, open] = [series('late', '0'), series('open', '7')];
      assert.deepEqual(eventsOf(subscriber), [
        ['message', [late, open]],
        ['changed', change(late, series('late', '1'))],
        ['changed', change(open, series('open', '6.5'))],
      ]);
    }
    assert.deepEqual(...subscribers.map(({ received }) => received.map(({ id }) => id)), 'two viewers, one poll');
  });

  test('a query of Prometheus\'s own counters is live', async (t) => {
    const subscriber = subscribe(t, query('prometheus_http_requests_total'));
    await subscriber.event('the document', ({ type }) => type === 'message');
    const { data } = await subscriber.event('a scrape', ({ type, data }) => type === 'changed' && data.item.labels.handler === '/metrics');
    assert.ok(Number(data.item.value) > Number(data.old.value));
  });

  test('a client that does not ask for a stream gets Prometheus\'s own response', async () => {
    const time = Math.floor(Date.now() / 1000);
    const path = `/api/v1/query?query=up&time=${time}`;
    const [through, directly] = await Promise.all([url, backend.url].map(async (base) => {
      const response = await fetch(base + path);
      return [response.status, response.headers.get('content-type'), await response.text()];
    }));
    assert.deepEqual(through, directly);
    assert.equal(JSON.parse(through[2]).data.result.length, 2);
  });

  test('a query by POST gets Prometheus\'s response', async () => {
    const response = await fetch(`${url}/api/v1/query`, { method: 'POST', body: new URLSearchParams({ query: 'vector(42)' }) });
    assert.equal((await response.json()).data.result[0].value[1], '42');
  });

  test('a query that Prometheus refuses gets its refusal', async () => {
    const response = await fetch(query('sum('), { headers: { accept: 'text/event-stream' } });
    assert.equal(response.status, 400);
    assert.equal((await response.json()).errorType, 'bad_data');
  });

  test('a target that goes down and comes back causes an event each', async (t) => {
    const subscriber = subscribe(t, `${url}/api/v1/targets?state=active`);
    await subscriber.event('both are up', ({ data }) => data.length === 2 && data.every(({ health }) => health === 'up'));
    await exporter.close();
    await subscriber.event('it is down', ({ type }) => type === 'down');
    await exporter.listen();
    await subscriber.event('it is up', ({ type }) => type === 'up');
    const target = `http://${exporter.address}/metrics`;
    assert.deepEqual(eventsOf(subscriber).slice(1), [
      ['down', { url: target, was: 'up' }],
      ['up', { url: target, was: 'down' }],
    ]);
  });

  test('an outage of Prometheus sends stale, and its end the document', async (t) => {
    exporter.gauges['shop_orders{status="open"}'] = 3;
    await until('it is scraped', async () => (await backend.query('shop_orders == 3')).length === 1);
    const subscriber = subscribe(t, query('shop_orders{status="open"}'));
    await subscriber.event('the document', ({ type }) => type === 'message');
    await backend.end();
    const { data } = await subscriber.event('it is stale', ({ type }) => type === 'stale');
    assert.ok(data.status >= 500, JSON.stringify(data));
    await backend.begin();
    await subscriber.until('it is back', ({ received }) => received.at(-1).type === 'message');
    assert.deepEqual(eventsOf(subscriber).filter(([type]) => type !== 'stale'), [
      ['message', [series('open', '3')]],
      ['message', [series('open', '3')]],
    ]);
  });
});
