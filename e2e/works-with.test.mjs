// Runs the Caddyfiles of docs/works-with.md in front of the real programs.
import assert from 'node:assert/strict';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { call, eventsOf, live, often, rarely, subscribe } from './lib/live.mjs';
import { installed, root } from './lib/program.mjs';
import { freePorts } from './lib/site.mjs';

test('json-server', async (t) => {
  const { url } = await live(t, 'json-server', 'localhost:3000', rarely, async (port, folder) => {
    const file = join(folder, 'db.json');
    await writeFile(file, JSON.stringify({ posts: [{ id: 1, title: 'one' }] }));
    return { command: process.execPath, args: [join(root, 'e2e/node_modules/json-server/lib/cli/bin.js'), '--host', '127.0.0.1', '--port', String(port), file], ready: '/posts' };
  });
  const posts = subscribe(t, `${url}/posts`);
  await posts.event('the document', ({ data }) => data.length === 1);
  await call(`${url}/posts`, 'POST', { title: 'two' });
  await posts.event('the new post', ({ data }) => data.length === 2 && data[1].title === 'two');
  await call(`${url}/posts/1`, 'PATCH', { title: 'first' });
  await posts.event('the changed post', ({ data }) => data[0].title === 'first');
  assert.equal(posts.received.length, 3);
});

const etcd = installed(/^etcd$/);

test('etcd', { skip: !etcd && 'etcd is missing' }, async (t) => {
  const [peer] = await freePorts(1);
  const { url } = await live(t, 'etcd', 'localhost:2379', rarely, (port, folder) => ({
    command: etcd,
    args: ['--data-dir', join(folder, 'data'), '--listen-client-urls', `http://127.0.0.1:${port}`, '--advertise-client-urls', `http://127.0.0.1:${port}`,
      '--listen-peer-urls', `http://127.0.0.1:${peer}`, '--initial-advertise-peer-urls', `http://127.0.0.1:${peer}`, '--initial-cluster', `default=http://127.0.0.1:${peer}`],
    ready: '/health',
  }));
  const encoded = (text) => Buffer.from(text).toString('base64');
  const put = (key, value) => call(`${url}/v3/kv/put`, 'POST', { key: encoded(key), value: encoded(value) });
  const keys = subscribe(t, `${url}/v3/kv/range`);
  await keys.event('the document', ({ data }) => data.length === 0);
  await put('shop/dogs', '5');
  await keys.event('the key', ({ data }) => data.length === 1);
  await put('other/cats', '7');
  await put('shop/dogs', '4');
  await keys.event('the new value', ({ data }) => data[0]?.value === '4');
  assert.deepEqual(eventsOf(keys), [['message', []], ['message', [{ key: 'shop/dogs', value: '5' }]], ['message', [{ key: 'shop/dogs', value: '4' }]]]);
});

const aria2 = installed(/^aria2c$/);

test('aria2', { skip: !aria2 && 'aria2 is missing' }, async (t) => {
  const { url } = await live(t, 'aria2', 'localhost:6800', rarely, (port, folder) => ({
    command: aria2, args: ['--no-conf', '--enable-rpc', `--rpc-listen-port=${port}`, `--dir=${folder}`, '--disable-ipv6', '--enable-dht=false'], ready: '/jsonrpc',
  }));
  const downloads = subscribe(t, `${url}/jsonrpc`);
  await downloads.event('the document', ({ data }) => data.length === 0);
  await call(`${url}/jsonrpc`, 'POST', { jsonrpc: '2.0', id: '1', method: 'aria2.addUri', params: [['http://127.0.0.1:9/a'], { pause: 'true' }] });
  const { data } = await downloads.event('the download', ({ data }) => data.length === 1);
  assert.equal(data[0].status, 'paused');
  await call(`${url}/jsonrpc`, 'POST', { jsonrpc: '2.0', id: '2', method: 'aria2.remove', params: [data[0].gid] });
  await downloads.until('the download is gone', ({ received }) => received.length === 3 && received[2].data.length === 0);
});

const nginx = installed(/^nginx$/);

test('nginx', { skip: !nginx && 'nginx is missing' }, async (t) => {
  const { url, folder } = await live(t, 'nginx', 'localhost:8081', often, async (port, folder) => {
    await mkdir(join(folder, 'files'));
    await writeFile(join(folder, 'files', 'a.txt'), 'a');
    await writeFile(join(folder, 'nginx.conf'), `daemon off; pid ${folder}/pid; error_log stderr; worker_processes 1; user root;
      events {} http { access_log off;
        ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
        server { listen 127.0.0.1:${port}; root ${folder}; autoindex on; autoindex_format json; } }`);
    return { command: nginx, args: ['-c', join(folder, 'nginx.conf'), '-p', folder], ready: '/files/' };
  });
  const files = subscribe(t, `${url}/files/`, { events: ['added', 'changed', 'removed'] });
  await files.event('the document', ({ type, data }) => type === 'message' && data[0].name === 'a.txt');
  await writeFile(join(folder, 'files', 'b.txt'), 'bb');
  await files.event('the new file', ({ type, data }) => type === 'added' && data.item.name === 'b.txt' && data.item.size === 2);
  await rm(join(folder, 'files', 'a.txt'));
  await files.event('the removed file', ({ type, data }) => type === 'removed' && data.key === 'a.txt');
});
