import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { until } from './lib/program.mjs';
import { Exporter, Prometheus, prometheus } from './lib/prometheus.mjs';
import { recipe } from './lib/recipe.mjs';
import { Caddy, freePorts } from './lib/site.mjs';
import { Watcher } from './lib/watcher.mjs';

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
    // It begins to scrape some seconds after it has started.
    await until('Prometheus has scraped', async () => (await backend.query('up == 1')).length === 2);
  });
  after(async () => {
    await caddy?.stop();
    await backend?.stop();
    await exporter?.close();
  });

  const query = (expression) => `${url}/api/v1/query?${new URLSearchParams({ query: expression })}`;

  function watch(t, path, options = {}) {
    const watcher = new Watcher(path, { ...options, events: ['changed', 'added', 'removed', 'up', 'down', 'stale'] });
    t.after(() => watcher.close());
    return watcher;
  }

  const said = (watcher) => watcher.received.map(({ type, data }) => [type, data]);
  const series = (status, value) => ({
    series: `shop_orders ${exporter.address} shop ${status}`,
    labels: { __name__: 'shop_orders', instance: exporter.address, job: 'shop', status },
    value,
  });

  const change = (old, item) => ({ key: old.series, item, old });

  test('a query gives the document, and then one event for each series that has changed', async (t) => {
    const watchers = ['a', 'b'].map((who) => watch(t, query('shop_orders'), { headers: { cookie: `grafana_session=${who}` } }));
    await Promise.all(watchers.map((watcher) => watcher.event('the document', ({ type }) => type === 'message')));
    exporter.gauges['shop_orders{status="late"}'] = 1;
    await Promise.all(watchers.map((watcher) => watcher.event('the change', ({ type }) => type === 'changed')));
    exporter.gauges['shop_orders{status="open"}'] = 6.5;
    for (const watcher of watchers) {
      await watcher.event('the other change', ({ data }) => data.item?.value === '6.5');
      const [late, open] = [series('late', '0'), series('open', '7')];
      assert.deepEqual(said(watcher), [
        ['message', [late, open]],
        ['changed', change(late, series('late', '1'))],
        ['changed', change(open, series('open', '6.5'))],
      ]);
    }
    assert.deepEqual(...watchers.map(({ received }) => received.map(({ id }) => id)), 'two viewers, one poll');
  });

  test('Prometheus\'s own counters are live, too', async (t) => {
    const watcher = watch(t, query('prometheus_http_requests_total'));
    await watcher.event('the document', ({ type }) => type === 'message');
    const { data } = await watcher.event('a scrape', ({ type, data }) => type === 'changed' && data.item.labels.handler === '/metrics');
    assert.ok(Number(data.item.value) > Number(data.old.value));
  });

  test('one who doesn\'t ask for a stream gets what Prometheus says', async () => {
    const time = Math.floor(Date.now() / 1000);
    const path = `/api/v1/query?query=up&time=${time}`;
    const [through, directly] = await Promise.all([url, backend.url].map(async (base) => {
      const response = await fetch(base + path);
      return [response.status, response.headers.get('content-type'), await response.text()];
    }));
    assert.deepEqual(through, directly);
    assert.equal(JSON.parse(through[2]).data.result.length, 2);
  });

  test('a query that is posted gets its answer', async () => {
    const response = await fetch(`${url}/api/v1/query`, { method: 'POST', body: new URLSearchParams({ query: 'vector(42)' }) });
    assert.equal((await response.json()).data.result[0].value[1], '42');
  });

  test('what Prometheus refuses is refused', async () => {
    const response = await fetch(query('sum('), { headers: { accept: 'text/event-stream' } });
    assert.equal(response.status, 400);
    assert.equal((await response.json()).errorType, 'bad_data');
  });

  test('a target that goes down, and comes back, is an event', async (t) => {
    const watcher = watch(t, `${url}/api/v1/targets?state=active`);
    await watcher.event('both are up', ({ data }) => data.length === 2 && data.every(({ health }) => health === 'up'));
    await exporter.close();
    await watcher.event('it is down', ({ type }) => type === 'down');
    await exporter.listen();
    await watcher.event('it is up', ({ type }) => type === 'up');
    const target = `http://${exporter.address}/metrics`;
    assert.deepEqual(said(watcher).slice(1), [
      ['down', { url: target, was: 'up' }],
      ['up', { url: target, was: 'down' }],
    ]);
  });

  test('while Prometheus is away the document is stale, and then it is back', async (t) => {
    exporter.gauges['shop_orders{status="open"}'] = 3;
    await until('it is scraped', async () => (await backend.query('shop_orders == 3')).length === 1);
    const watcher = watch(t, query('shop_orders{status="open"}'));
    await watcher.event('the document', ({ type }) => type === 'message');
    await backend.end();
    const { data } = await watcher.event('it is stale', ({ type }) => type === 'stale');
    assert.ok(data.status >= 500, JSON.stringify(data));
    await backend.begin();
    await watcher.until('it is back', ({ received }) => received.at(-1).type === 'message');
    assert.deepEqual(said(watcher).filter(([type]) => type !== 'stale'), [
      ['message', [series('open', '3')]],
      ['message', [series('open', '3')]],
    ]);
  });
});
