// Runs the Caddyfiles of docs/works-with.md in front of programs of Debian's that
// are installed quickly.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { call, eventsOf, follow, live, often, rarely, request, serve, subscribe, temporary } from './lib/live.mjs';
import { PHP, phpFPM } from './lib/php.mjs';
import { Program, installed, responds, root, until } from './lib/program.mjs';
import { freePorts } from './lib/site.mjs';

const changes = ['added', 'changed', 'removed'];
const python = '/usr/bin/python3'; // Debian's modules are not for another one

test("Python's http.server", async (t) => {
  const { url, folder } = await live(t, "Python's http.server", 'localhost:8000', often, async (port, folder) => {
    await writeFile(join(folder, 'stock.json'), '{"dogs": 5}');
    return { command: python, args: ['-m', 'http.server', '--bind', '127.0.0.1', String(port)], ready: '/' };
  });
  const stock = subscribe(t, `${url}/stock.json`);
  await stock.event('the document', ({ data }) => data.dogs === 5);
  await writeFile(join(folder, 'stock.json'), '{"dogs": 4}');
  await stock.event('the change', ({ data }) => data.dogs === 4);
});

test('Django REST framework', async (t) => {
  const { url } = await live(t, 'Django REST framework', 'localhost:8001', rarely, (port, folder) => ({
    command: python, args: [join(root, 'e2e', 'django', 'shop.py'), `127.0.0.1:${port}`], env: { SHOP_DATABASE: join(folder, 'db') }, ready: '/orders/',
  }));
  const orders = subscribe(t, `${url}/orders/`, { events: changes });
  await orders.event('the document', ({ data }) => data.length === 0);
  await call(`${url}/orders/`, 'POST', { item: 'tea' });
  await call(`${url}/orders/1/`, 'PATCH', { status: 'paid' });
  await orders.event('the new status', ({ type }) => type === 'changed');
  assert.match(await request(`${url}/orders/`, 'GET', undefined, { accept: 'text/html' }), /<title>Orders List/, 'its pages are as before');
  await call(`${url}/orders/1/`, 'DELETE');
  await orders.event('the end', ({ type }) => type === 'removed');
  const paid = { id: 1, item: 'tea', status: 'paid' };
  assert.deepEqual(eventsOf(orders).slice(2), [
    ['changed', { key: 1, item: paid, old: { ...paid, status: 'new' } }], ['removed', { key: 1, old: paid }]]);
});

// torrent is a file of a few bytes, as a client of BitTorrent describes it.
const torrent = Buffer.concat([
  Buffer.from('d4:infod6:lengthi5e4:name9:hello.txt12:piece lengthi16384e6:pieces20:'), createHash('sha1').update('hello').digest(), Buffer.from('ee')]);

const transmission = installed(/^transmission-daemon$/);

test('Transmission', { skip: !transmission && 'transmission-daemon is missing' }, async (t) => {
  const folder = await temporary(t);
  const [port, peers] = await freePorts(2);
  const settings = { 'rpc-bind-address': '127.0.0.1', 'rpc-port': port, 'bind-address-ipv4': '127.0.0.1', 'bind-address-ipv6': '::1', 'peer-port': peers,
    'dht-enabled': false, 'lpd-enabled': false, 'pex-enabled': false, 'utp-enabled': false, 'port-forwarding-enabled': false, 'download-dir': folder };
  await writeFile(join(folder, 'settings.json'), JSON.stringify(settings));
  const program = new Program(transmission, ['--foreground', '--config-dir', folder], { cwd: folder });
  t.after(() => program.stop('SIGKILL')); // at SIGTERM it waits for trackers
  await responds(program, `http://127.0.0.1:${port}/transmission/rpc`, (response) => response?.status === 409);
  const url = await serve(t, 'JSON-RPC', { 'localhost:9091 {': `127.0.0.1:${port} {`, '@poll localhost:9091': `@poll 127.0.0.1:${port}`, 'poll 2s': rarely }, { page: 'recipes.md' });
  const downloads = subscribe(t, `${url}/transmission/rpc`, { events: changes });
  await downloads.event('the document', ({ data }) => data.length === 0);
  const handshake = await fetch(`${url}/transmission/rpc`, { method: 'POST', body: '{}' });
  assert.equal(handshake.status, 409, 'a page of another site must not write');
  const session = { 'X-Transmission-Session-Id': handshake.headers.get('X-Transmission-Session-Id') };
  const rpc = (method, args) => call(`${url}/transmission/rpc`, 'POST', { method, arguments: args }, session);
  await rpc('torrent-add', { metainfo: torrent.toString('base64'), paused: true });
  const { data } = await downloads.event('the download', ({ data }) => JSON.stringify(data).includes('"name":"hello.txt","percent":0'));
  const id = data.key ?? data[0].id;
  await rpc('torrent-remove', { ids: [id] });
  await downloads.event('its end', ({ type, data }) => type === 'removed' && data.key === id);
});

const qbittorrent = installed(/^qbittorrent-nox$/);

test('qBittorrent', { skip: !qbittorrent && 'qbittorrent-nox is missing' }, async (t) => {
  const [peers] = await freePorts(1);
  const { url } = await live(t, 'qBittorrent', 'localhost:8082', rarely, async (port, folder) => {
    await mkdir(join(folder, 'qBittorrent', 'config'), { recursive: true });
    await writeFile(join(folder, 'qBittorrent', 'config', 'qBittorrent.conf'), `[LegalNotice]
Accepted=true
[Preferences]
WebUI\\Address=127.0.0.1
WebUI\\LocalHostAuth=false
WebUI\\UseUPnP=false
[BitTorrent]
Session\\DHTEnabled=false
Session\\LSDEnabled=false
Session\\PeXEnabled=false
Session\\Interface=lo
Session\\InterfaceName=lo
[Network]
PortForwardingEnabled=false
`);
    return { command: qbittorrent, args: [`--profile=${folder}`, `--webui-port=${port}`, `--torrenting-port=${peers}`], env: { HOME: folder }, ready: '/api/v2/app/version' };
  });
  const downloads = subscribe(t, `${url}/api/v2/torrents/info`, { events: changes });
  await downloads.event('the document', ({ data }) => data.length === 0);
  const form = new FormData();
  form.append('torrents', new Blob([torrent]), 'hello.torrent');
  form.append('paused', 'true');
  await request(`${url}/api/v2/torrents/add`, 'POST', form);
  const { data } = await downloads.event('the download', ({ type, data }) => type === 'added' || data[0]?.name === 'hello.txt');
  const hash = data.key ?? data[0].hash;
  await request(`${url}/api/v2/torrents/delete`, 'POST', new URLSearchParams({ hashes: hash, deleteFiles: 'false' }));
  await downloads.event('its end', ({ type, data }) => type === 'removed' && data.key === hash);
});

const syncthing = installed(/^syncthing$/);

test('Syncthing', { skip: !syncthing && 'syncthing is missing' }, async (t) => {
  const [peers] = await freePorts(1);
  const { url, folder } = await live(t, 'Syncthing', 'localhost:8384', rarely, async (port, folder) => {
    await writeFile(join(folder, 'config.xml'), `<configuration version="36">
      <gui enabled="true" tls="false"><address>127.0.0.1:${port}</address><apikey>a-key</apikey></gui>
      <options><listenAddress>tcp://127.0.0.1:${peers}</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled>
        <localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled>
        <startBrowser>false</startBrowser><urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled>
        <autoUpgradeIntervalH>0</autoUpgradeIntervalH></options></configuration>`);
    return { command: syncthing, args: ['serve', '--no-browser', '--no-restart', '--no-default-folder', '--home', folder], env: { HOME: folder }, ready: '/rest/noauth/health' };
  }, { env: { SYNCTHING_KEY: 'a-key' } });
  const folders = subscribe(t, `${url}/rest/config/folders`, { events: changes });
  await folders.event('the document', ({ data }) => data.length === 0);
  await call(`${url}/rest/config/folders`, 'POST', { id: 'photos', label: 'Photos', path: join(folder, 'photos') });
  await folders.event('the folder', ({ data }) => JSON.stringify(data).includes('"label":"Photos","paused":false'));
  await call(`${url}/rest/config/folders/photos`, 'PATCH', { paused: true });
  await folders.event('the pause', ({ data }) => JSON.stringify(data).includes('"paused":true'));
});

const registry = installed(/^docker-registry$/);

test('docker-registry', { skip: !registry && 'docker-registry is missing' }, async (t) => {
  const { url } = await live(t, 'docker-registry', 'localhost:5000', rarely, async (port, folder) => {
    const file = join(folder, 'config.yml');
    await writeFile(file, `version: 0.1\nstorage: {filesystem: {rootdirectory: ${folder}/data}, delete: {enabled: true}}\nhttp: {addr: "127.0.0.1:${port}"}\n`);
    return { command: registry, args: ['serve', file], ready: '/v2/' };
  });
  const catalogue = subscribe(t, `${url}/v2/_catalog`);
  await catalogue.event('the document', ({ data }) => data.repositories.length === 0);
  const tags = subscribe(t, `${url}/v2/shop/tags/list`);
  await tags.event('no tags yet', ({ type }) => type === 'stale');
  const push = async (tag, text) => {
    const digest = `sha256:${createHash('sha256').update(text).digest('hex')}`;
    const upload = await fetch(`${url}/v2/shop/blobs/uploads/`, { method: 'POST' });
    const put = new URL(upload.headers.get('location'), url);
    put.searchParams.set('digest', digest);
    await request(put, 'PUT', text);
    const config = { mediaType: 'application/vnd.docker.container.image.v1+json', size: text.length, digest };
    const manifest = { schemaVersion: 2, mediaType: 'application/vnd.docker.distribution.manifest.v2+json', config, layers: [] };
    await call(`${url}/v2/shop/manifests/${tag}`, 'PUT', manifest, { 'content-type': manifest.mediaType });
  };
  await push('1.0', '{}');
  await catalogue.event('the repository', ({ data }) => data.repositories[0] === 'shop');
  await tags.event('its tag', ({ type, data }) => type === 'message' && data.tags[0] === '1.0');
  await push('1.1', '{"a":1}');
  await tags.event('the next tag', ({ data }) => data.tags?.length === 2);
  assert.equal(catalogue.received.length, 2);
});

const radicale = installed(/^radicale$/);

test('Radicale', { skip: !radicale && 'radicale is missing' }, async (t) => {
  const { url } = await live(t, 'Radicale', 'localhost:5232', rarely, (port, folder) => ({
    command: python, ready: '/.web/',
    args: [radicale, '--config', '', '--server-hosts', `127.0.0.1:${port}`, '--auth-type', 'none', '--rights-type', 'owner_only', '--storage-filesystem-folder', join(folder, 'data')],
  }));
  const ann = { authorization: `Basic ${btoa('ann:x')}` };
  await request(`${url}/ann/home/`, 'MKCALENDAR', undefined, ann);
  const calendar = await follow(t, `${url}/ann/home/`, ann);
  await until('the document', () => calendar.text.includes('BEGIN:VCALENDAR'));
  const entry = ['BEGIN:VCALENDAR', 'VERSION:2.0', 'PRODID:test', 'BEGIN:VEVENT', 'UID:1', 'DTSTAMP:20261127T120000Z', 'DTSTART:20261128T120000Z', 'SUMMARY:Tea', 'END:VEVENT', 'END:VCALENDAR', ''].join('\r\n');
  await request(`${url}/ann/home/1.ics`, 'PUT', entry, { ...ann, 'content-type': 'text/calendar' });
  await until('the entry', () => calendar.text.includes('data: SUMMARY:Tea'));
  await request(`${url}/ann/home/1.ics`, 'DELETE', undefined, ann);
  await until('an empty calendar', () => calendar.text.match(/^id: /gm).length === 3);
});

const redis = installed(/^redis-server$/);
const webdis = installed(/^webdis$/);

test('Webdis', { skip: !(redis && webdis) && 'redis-server or webdis is missing' }, async (t) => {
  const [port] = await freePorts(1);
  const folder = await temporary(t);
  const store = new Program(redis, ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', folder]);
  t.after(() => store.stop());
  await until('redis is up', () => store.stdout.includes('Ready to accept connections'));
  const { url } = await live(t, 'Webdis', 'localhost:7379', rarely, async (http, folder) => {
    const file = join(folder, 'webdis.json');
    await writeFile(file, JSON.stringify({ redis_host: '127.0.0.1', redis_port: port, http_host: '127.0.0.1', http_port: http, threads: 2, daemonize: false, database: 0, verbosity: 3, logfile: join(folder, 'log') }));
    return { command: webdis, args: [file], ready: '/PING' };
  });
  const stock = subscribe(t, `${url}/GET/stock`);
  await stock.event('the document', ({ data }) => data.GET === null);
  await request(`${url}/SET/stock/4`, 'GET');
  await stock.event('the value', ({ data }) => data.GET === '4');
  await request(`${url}/`, 'POST', 'DECR/stock');
  await stock.event('the next value', ({ data }) => data.GET === '3');
});

const dokuwiki = '/usr/share/dokuwiki';

test('DokuWiki', { skip: !(phpFPM && existsSync(dokuwiki)) && 'php-fpm or dokuwiki is missing' }, async (t) => {
  const php = await PHP.start([]);
  t.after(() => php.stop());
  await cp(dokuwiki, php.public, { recursive: true, dereference: true });
  const data = join(php.folder, 'data');
  for (const name of ['pages', 'attic', 'media', 'media_attic', 'meta', 'media_meta', 'cache', 'index', 'locks', 'tmp', 'log']) await mkdir(join(data, name), { recursive: true });
  await mkdir(join(php.folder, 'conf'));
  await writeFile(join(php.folder, 'conf', 'local.php'), `<?php $conf['useacl'] = 0; $conf['savedir'] = '${data}'; $conf['updatecheck'] = 0;\n`);
  await writeFile(join(php.public, 'inc', 'preload.php'), `<?php define('DOKU_CONF', '${php.folder}/conf/');\n${(await readFile(join(dokuwiki, 'inc', 'preload.php'), 'utf8')).slice('<?php'.length)}`);
  await php.own(data);
  const url = await serve(t, 'DokuWiki', { [dokuwiki]: php.public, 'unix//run/php/php-fpm.sock': `unix/${php.socket}`, 'poll 2s': rarely });
  const page = await follow(t, `${url}/doku.php?id=start`);
  await until('the document', () => page.text.includes('This topic does not exist yet'));
  let cookie;
  const edit = async (text) => {
    const form = await fetch(`${url}/doku.php?id=start&do=edit`, { headers: { ...(cookie && { cookie }) } });
    cookie ??= form.headers.getSetCookie().map((all) => all.split(';')[0]).join('; ');
    const fields = new URLSearchParams([...(await form.text()).matchAll(/<input type="hidden" name="(\w+)" value="([^"]*)"/g)].map(([, name, value]) => [name, value]));
    fields.set('wikitext', text);
    fields.set('do[save]', 'Save');
    await request(`${url}/doku.php?id=start`, 'POST', fields, { cookie });
  };
  await edit('We sell **tea**.');
  await until('the text', () => page.text.includes('We sell <strong>tea</strong>.'));
  await edit('We sell coffee.');
  await until('the next text', () => page.text.includes('We sell coffee.'));
  assert.equal(page.text.match(/^id: /gm).length, 3, 'tokens are no changes');
});
