// Runs the Caddyfiles of docs/works-with.md in front of programs that take too long
// to install for CI: node --test --test-concurrency=1 works-with-large.mjs
// Each test skips itself unless its program is on the PATH.
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, chown, cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { call, live, rarely, request, serve, subscribe, temporary } from './lib/live.mjs';
import { PHP, phpFPM } from './lib/php.mjs';
import { Program, finished, installed, until } from './lib/program.mjs';
import { freePorts } from './lib/site.mjs';

const events = ['added', 'changed', 'removed'];
const missing = (program, name) => !program && `${name} is missing`;
const basic = (user, password) => ({ authorization: `Basic ${btoa(`${user}:${password}`)}` });

const verdaccio = installed(/^verdaccio$/);

test('verdaccio', { skip: missing(verdaccio, 'verdaccio') }, async (t) => {
  const { url } = await live(t, 'verdaccio', 'localhost:4873', rarely, async (port, folder) => {
    await writeFile(join(folder, 'config.yaml'), 'storage: ./storage\nweb: {enable: false}\nuplinks: {}\npackages: {"**": {access: $all, publish: $all, unpublish: $all}}\nmax_body_size: 1mb\n');
    return { command: verdaccio, args: ['--config', join(folder, 'config.yaml'), '--listen', `127.0.0.1:${port}`], ready: '/-/ping' };
  });
  const publish = (version) => {
    const data = Buffer.from(version).toString('base64');
    const dist = { tarball: `${url}/shop/-/shop-${version}.tgz`, shasum: createHash('sha1').update(version).digest('hex') };
    return call(`${url}/shop`, 'PUT', {
      _id: 'shop', name: 'shop', 'dist-tags': { latest: version }, versions: { [version]: { name: 'shop', version, dist } },
      _attachments: { [`shop-${version}.tgz`]: { content_type: 'application/octet-stream', data, length: version.length } },
    });
  };
  await publish('1.0.0');
  const shop = subscribe(t, `${url}/shop`);
  await shop.event('the document', ({ data }) => data.tags.latest === '1.0.0');
  await publish('1.1.0');
  await shop.event('the new version', ({ data }) => data.versions.length === 2);
  await call(`${url}/-/package/shop/dist-tags/old`, 'PUT', '1.0.0');
  await shop.event('the tag', ({ data }) => data.tags.old === '1.0.0');
});

const pouchdb = installed(/^pouchdb-server$/);

test('pouchdb-server', { skip: missing(pouchdb, 'pouchdb-server') }, async (t) => {
  const { url } = await live(t, 'pouchdb-server', 'localhost:5984', rarely, (port) => ({
    command: pouchdb, args: ['--in-memory', '--no-stdout-logs', '--host', '127.0.0.1', '--port', String(port)], ready: '/',
  }));
  await call(`${url}/shop`, 'PUT');
  const docs = subscribe(t, `${url}/shop/_all_docs?include_docs=true`, { events });
  await docs.event('the document', ({ data }) => data.length === 0);
  const { rev } = JSON.parse(await call(`${url}/shop/tea`, 'PUT', { stock: 5 }));
  await docs.event('the doc', ({ data }) => JSON.stringify(data).includes('"stock":5'));
  await call(`${url}/shop/tea`, 'PUT', { _rev: rev, stock: 4 });
  await docs.event('the change', ({ type, data }) => type === 'changed' && data.item.stock === 4);
});

const nodeRED = installed(/^node-red$/);

test('Node-RED', { skip: missing(nodeRED, 'node-red') }, async (t) => {
  const { url } = await live(t, 'Node-RED', 'localhost:1880', rarely, async (port, folder) => {
    await writeFile(join(folder, 'settings.js'), `module.exports = { uiHost: '127.0.0.1', uiPort: ${port}, flowFile: 'flows.json', telemetry: { enabled: false }, logging: { console: { level: 'warn' } } };`);
    const endpoint = (method, func, y) => [
      { id: `in${y}`, type: 'http in', z: 'f', url: '/stock', method, wires: [[`do${y}`]] },
      { id: `do${y}`, type: 'function', z: 'f', func, outputs: 1, wires: [[`out${y}`]] },
      { id: `out${y}`, type: 'http response', z: 'f', wires: [] },
    ];
    const flows = [{ id: 'f', type: 'tab', label: 'shop' }, ...endpoint('get', "msg.payload = { stock: flow.get('stock') ?? 5 }; return msg;", 1),
      ...endpoint('post', "flow.set('stock', msg.payload.stock); msg.payload = {}; return msg;", 2)];
    await writeFile(join(folder, 'flows.json'), JSON.stringify(flows));
    return { command: nodeRED, args: ['--userDir', folder], ready: '/stock' };
  });
  const stock = subscribe(t, `${url}/stock`);
  await stock.event('the document', ({ data }) => data.stock === 5);
  await call(`${url}/stock`, 'POST', { stock: 4 });
  await stock.event('the change', ({ data }) => data.stock === 4);
});

// postgres starts a server whose superuser needs no password, and returns a URL.
const postgresBin = ['/usr/lib/postgresql/15/bin', '/usr/lib/postgresql/17/bin'].find(existsSync);

async function postgres(t) {
  const folder = await temporary(t);
  const [port] = await freePorts(1);
  const data = join(folder, 'data');
  const id = Number((await finished('id', ['-u', 'postgres'])).stdout);
  await chown(folder, id, id);
  const as = (program, ...args) => ['-u', 'postgres', '--', join(postgresBin, program), ...args];
  const made = await finished('runuser', as('initdb', '-D', data, '-A', 'trust', '-U', 'postgres', '--no-sync'));
  assert.equal(made.code, 0, made.stderr);
  const program = new Program('runuser', as('postgres', '-D', data, '-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-k', folder, '-c', 'fsync=off'));
  t.after(() => program.stop());
  await until('PostgreSQL is up', () => program.stderr.includes('ready to accept connections'));
  return `postgres://postgres@127.0.0.1:${port}/postgres?sslmode=disable`;
}

const postgraphile = installed(/^postgraphile$/);

test('PostGraphile', { skip: missing(postgraphile && postgresBin, 'postgraphile') }, async (t) => {
  const database = await postgres(t);
  const sql = 'create table items (id serial primary key, name text, stock int); insert into items (name, stock) values (\'tea\', 5)';
  assert.equal((await finished(join(postgresBin, '..', '..', '..', '..', 'bin', 'psql'), [database, '-c', sql])).code, 0);
  const { url } = await live(t, 'PostGraphile', 'localhost:5050', rarely, (port) => ({
    command: postgraphile, args: ['-c', database, '-n', '127.0.0.1', '-p', String(port), '--disable-graphiql', '--disable-query-log'], ready: '/graphql',
  }));
  const items = subscribe(t, `${url}/graphql`, { events });
  await items.event('the document', ({ data }) => data[0]?.stock === 5);
  await call(`${url}/graphql`, 'POST', { query: 'mutation { updateItemById(input: {id: 1, itemPatch: {stock: 4}}) { clientMutationId } }' });
  await items.event('the change', ({ data }) => JSON.stringify(data).includes('"stock":4'));
});

const miniflux = installed(/^miniflux(\.app)?$/);

test('Miniflux', { skip: missing(miniflux && postgresBin, 'miniflux') }, async (t) => {
  const database = await postgres(t);
  const { url } = await live(t, 'Miniflux', 'localhost:8083', rarely, (port) => ({
    command: miniflux, args: [], ready: '/healthcheck',
    env: { DATABASE_URL: database, LISTEN_ADDR: `127.0.0.1:${port}`, RUN_MIGRATIONS: '1', CREATE_ADMIN: '1', ADMIN_USERNAME: 'ann', ADMIN_PASSWORD: 's3cret-word', DISABLE_SCHEDULER_SERVICE: '1' },
  }));
  const ann = basic('ann', 's3cret-word');
  const categories = subscribe(t, `${url}/v1/categories`, { headers: ann });
  await categories.event('the document', ({ data }) => data.length === 1);
  const { id } = JSON.parse(await call(`${url}/v1/categories`, 'POST', { title: 'Tea' }, ann));
  await categories.event('the category', ({ data }) => data.length === 2);
  await call(`${url}/v1/categories/${id}`, 'PUT', { title: 'Coffee' }, ann);
  await categories.event('its new name', ({ data }) => data.some(({ title }) => title === 'Coffee'));
  assert.equal((await fetch(`${url}/v1/categories`, { headers: { accept: 'text/event-stream' } })).status, 401);
});

const pocketBase = installed(/^pocketbase$/);

test('PocketBase', { skip: missing(pocketBase, 'pocketbase') }, async (t) => {
  const { url } = await live(t, 'PocketBase', 'localhost:8090', rarely, async (port, folder) => {
    const own = [`--dir=${folder}`, `--migrationsDir=${join(folder, 'migrations')}`];
    const { code, stderr } = await finished(pocketBase, ['superuser', 'upsert', 'ann@example.com', 's3cret-word', ...own]);
    assert.equal(code, 0, stderr);
    return { command: pocketBase, args: ['serve', `--http=127.0.0.1:${port}`, ...own], ready: '/api/health' };
  });
  const { token } = JSON.parse(await call(`${url}/api/collections/_superusers/auth-with-password`, 'POST', { identity: 'ann@example.com', password: 's3cret-word' }));
  const ann = { authorization: token };
  await call(`${url}/api/collections`, 'POST', { name: 'orders', type: 'base', listRule: '', fields: [{ name: 'item', type: 'text' }] }, ann);
  const orders = subscribe(t, `${url}/api/collections/orders/records`, { events });
  await orders.event('the document', ({ data }) => data.length === 0);
  const { id } = JSON.parse(await call(`${url}/api/collections/orders/records`, 'POST', { item: 'tea' }, ann));
  await orders.event('the order', ({ data }) => JSON.stringify(data).includes('"item":"tea"'));
  await call(`${url}/api/collections/orders/records/${id}`, 'PATCH', { item: 'coffee' }, ann);
  await orders.event('the change', ({ data }) => JSON.stringify(data).includes('"item":"coffee"'));
});

const rabbitMQ = installed(/^rabbitmq-server$/) && (await readdir('/usr/lib/rabbitmq/lib').catch(() => []))[0];

test('RabbitMQ', { skip: missing(rabbitMQ, 'rabbitmq-server') }, async (t) => {
  const [amqp, dist, epmd] = await freePorts(3);
  const env = { ERL_EPMD_ADDRESS: '127.0.0.1', ERL_EPMD_PORT: String(epmd) };
  const mapper = new Program('epmd', [], { env });
  t.after(() => mapper.stop());
  const { url } = await live(t, 'RabbitMQ', 'localhost:15672', 'poll 2s', async (port, folder) => {
    await writeFile(join(folder, 'rabbitmq.conf'), `listeners.tcp.default = 127.0.0.1:${amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = ${port}\n`);
    await writeFile(join(folder, 'plugins'), '[rabbitmq_management].');
    return {
      command: `/usr/lib/rabbitmq/lib/${rabbitMQ}/sbin/rabbitmq-server`, args: [], ready: '/api/overview', isGroup: true, millis: 120_000,
      env: {
        ...env, HOME: folder, RABBITMQ_NODENAME: 'test@localhost', RABBITMQ_DIST_PORT: String(dist), RABBITMQ_MNESIA_BASE: join(folder, 'data'), RABBITMQ_LOG_BASE: join(folder, 'log'),
        RABBITMQ_CONFIG_FILE: join(folder, 'rabbitmq.conf'), RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, 'plugins'),
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
      },
    };
  });
  const guest = basic('guest', 'guest');
  const queues = subscribe(t, `${url}/api/queues`, { events, headers: guest });
  await queues.event('the document', ({ data }) => data.length === 0);
  await call(`${url}/api/queues/%2F/orders`, 'PUT', {}, guest);
  await queues.event('the queue', ({ data }) => JSON.stringify(data).includes('"name":"orders"'));
  await call(`${url}/api/exchanges/%2F/amq.default/publish`, 'POST', { properties: {}, routing_key: 'orders', payload: 'tea', payload_encoding: 'string' }, guest);
  await queues.event('the message', ({ data }) => JSON.stringify(data).includes('"messages":1'));
});

const redmine = '/usr/share/redmine';

test('Redmine', { skip: missing(existsSync(redmine), 'redmine') }, async (t) => {
  const key = randomUUID().replaceAll('-', '');
  const folder = await temporary(t);
  await cp('/var/lib/dbconfig-common/sqlite3/redmine/instances/default/redmine_default', join(folder, 'db'));
  const env = { RAILS_ENV: 'production', DATABASE_URL: `sqlite3:${folder}/db`, SECRET_KEY_BASE: key, RAILS_LOG_TO_STDOUT: '1' };
  const seed = `Setting.rest_api_enabled = '1'; u = User.find_by(login: 'admin'); u.update_columns(must_change_passwd: false);
    Token.where(user: u, action: 'api').delete_all; t = Token.new(user: u, action: 'api'); t.save!; t.update_column(:value, '${key}');
    p = Project.new(name: 'Shop', identifier: 'shop'); p.trackers = [Tracker.first]; p.save!`; // Debian's package has Redmine's default data
  const made = await finished('/usr/bin/ruby', [join(redmine, 'bin/rails'), 'runner', seed], { cwd: redmine, env });
  assert.equal(made.code, 0, made.stderr);
  const { url } = await live(t, 'Redmine', 'localhost:3001', rarely, (port) => ({
    command: '/usr/bin/puma', args: ['--no-config', '-e', 'production', '-b', `tcp://127.0.0.1:${port}`, join(redmine, 'config.ru')], cwd: redmine, env, ready: '/issues.json', millis: 60_000,
  }));
  const headers = { 'X-Redmine-API-Key': key };
  const issues = subscribe(t, `${url}/issues.json`, { events, headers });
  await issues.event('the document', ({ data }) => data.length === 0);
  const { issue } = JSON.parse(await call(`${url}/issues.json`, 'POST', { issue: { project_id: 'shop', subject: 'Tea is cold' } }, headers));
  await issues.event('the issue', ({ data }) => JSON.stringify(data).includes('Tea is cold'));
  await call(`${url}/issues/${issue.id}.json`, 'PUT', { issue: { subject: 'Tea is warm' } }, headers);
  await issues.event('the change', ({ data }) => JSON.stringify(data).includes('Tea is warm'));
});

// site copies a program to the folder of a PHP-FPM of its own.
async function site(t, from) {
  const php = await PHP.start([]);
  t.after(() => php.stop());
  await cp(from, php.public, { recursive: true, dereference: true, filter: (source) => existsSync(source) });
  return php;
}

test('MediaWiki', { skip: missing(phpFPM && existsSync('/usr/share/mediawiki'), 'mediawiki') }, async (t) => {
  const php = await site(t, '/usr/share/mediawiki');
  const data = join(php.folder, 'data');
  await mkdir(data);
  const made = await finished('php', [join(php.public, 'maintenance/install.php'), '--dbtype', 'sqlite', '--dbpath', data, '--pass', 's3cret-word-9', '--scriptpath', '', '--server', 'http://localhost', 'Shop', 'ann'], { cwd: php.public });
  assert.equal(made.code, 0, made.stdout + made.stderr);
  const settings = join(php.public, 'LocalSettings.php');
  await writeFile(settings, `${await readFile(settings, 'utf8')}\n$wgServer = 'http://' . $_SERVER['HTTP_HOST'];\n$wgCacheDirectory = '${data}';\n`);
  await php.own(data);
  await chmod(settings, 0o644);
  const url = await serve(t, 'MediaWiki', { '/usr/share/mediawiki': php.public, 'unix//run/php/php-fpm.sock': `unix/${php.socket}`, 'poll 2s': rarely });
  const edit = async (text) => {
    const tokens = await fetch(`${url}/api.php?action=query&meta=tokens&format=json`);
    const { query } = await tokens.json();
    const cookie = tokens.headers.getSetCookie().map((all) => all.split(';')[0]).join('; ');
    const body = new URLSearchParams({ action: 'edit', title: 'Tea', text, token: query.tokens.csrftoken, format: 'json' });
    assert.match(await request(`${url}/api.php`, 'POST', body, { cookie }), /"result":"Success"/);
  };
  await edit('We sell tea.');
  const page = subscribe(t, `${url}/api.php?action=parse&page=Tea&prop=text&format=json&formatversion=2&disablelimitreport=1`);
  await page.event('the document', ({ data }) => data.includes?.('We sell tea.'));
  await edit('We sell coffee.');
  await page.event('the edit', ({ data }) => data.includes?.('We sell coffee.'));
  assert.equal(page.received.length, 2);
});

const mariadb = installed(/^mariadbd$/);

test('WordPress', { skip: missing(phpFPM && mariadb && existsSync('/usr/share/wordpress'), 'wordpress or mariadb') }, async (t) => {
  const php = await site(t, '/usr/share/wordpress');
  const folder = await temporary(t);
  const id = Number((await finished('id', ['-u', 'mysql'])).stdout);
  await chown(folder, id, id);
  const made = await finished('mariadb-install-db', ['--no-defaults', `--datadir=${folder}/data`, '--user=mysql', '--auth-root-authentication-method=normal', '--skip-test-db']);
  assert.equal(made.code, 0, made.stderr);
  const server = new Program(mariadb, ['--no-defaults', `--datadir=${folder}/data`, `--socket=${folder}/sock`, `--pid-file=${folder}/pid`, '--user=mysql', '--skip-networking']);
  t.after(() => server.stop());
  await until('MariaDB is up', () => server.stderr.includes('ready for connections'));
  await finished('mariadb', ['--no-defaults', '-uroot', `-S${folder}/sock`, '-e', "create database shop; create user ann identified by 'x'; grant all on shop.* to ann; create user ann@localhost identified by 'x'; grant all on shop.* to ann@localhost"]);
  await chmod(folder, 0o755);
  await writeFile(join(php.public, 'wp-config.php'), `<?php
    define('DB_NAME', 'shop'); define('DB_USER', 'ann'); define('DB_PASSWORD', 'x'); define('DB_HOST', 'localhost:${folder}/sock'); define('DB_CHARSET', 'utf8mb4'); define('DB_COLLATE', '');
    define('AUTH_KEY', 'a'); define('SECURE_AUTH_KEY', 'b'); define('LOGGED_IN_KEY', 'c'); define('NONCE_KEY', 'd'); define('AUTH_SALT', 'e'); define('SECURE_AUTH_SALT', 'f'); define('LOGGED_IN_SALT', 'g'); define('NONCE_SALT', 'h');
    define('WP_HTTP_BLOCK_EXTERNAL', true); define('DISABLE_WP_CRON', true);
    define('WP_HOME', 'http://' . $_SERVER['HTTP_HOST']); define('WP_SITEURL', WP_HOME);
    $table_prefix = 'wp_'; if (!defined('ABSPATH')) define('ABSPATH', __DIR__ . '/'); require ABSPATH . 'wp-settings.php';\n`);
  const url = await serve(t, 'WordPress', { '/usr/share/wordpress': php.public, 'unix//run/php/php-fpm.sock': `unix/${php.socket}`, 'poll 2s': rarely });
  const installed = await request(`${url}/wp-admin/install.php?step=2`, 'POST', new URLSearchParams({ weblog_title: 'Shop', user_name: 'ann', admin_password: 's3cret-word-9', admin_password2: 's3cret-word-9', pw_weak: 'on', admin_email: 'ann@example.com', blog_public: '0', language: 'en_US' }));
  assert.match(installed, /Success!/);
  await finished('mariadb', ['--no-defaults', '-uroot', `-S${folder}/sock`, 'shop', '-e', "update wp_options set option_value = '/%postname%/' where option_name = 'permalink_structure'; delete from wp_options where option_name = 'rewrite_rules'"]);
  const login = await fetch(`${url}/wp-login.php`, { method: 'POST', redirect: 'manual', headers: { cookie: 'wordpress_test_cookie=WP+Cookie+check' }, body: new URLSearchParams({ log: 'ann', pwd: 's3cret-word-9', testcookie: '1' }) });
  const cookie = login.headers.getSetCookie().map((all) => all.split(';')[0]).join('; ');
  const nonce = await request(`${url}/wp-admin/admin-ajax.php?action=rest-nonce`, 'GET', undefined, { cookie });
  const ann = { cookie, 'X-WP-Nonce': nonce };
  const posts = subscribe(t, `${url}/wp-json/wp/v2/posts`, { events });
  await posts.event('the document', ({ data }) => data[0]?.title === 'Hello world!');
  const { id: post } = JSON.parse(await call(`${url}/wp-json/wp/v2/posts`, 'POST', { title: 'Tea', status: 'publish' }, ann));
  await posts.event('the post', ({ data }) => JSON.stringify(data).includes('"title":"Tea"'));
  await call(`${url}/wp-json/wp/v2/posts/${post}`, 'POST', { title: 'Coffee' }, ann);
  await posts.event('the change', ({ data }) => JSON.stringify(data).includes('"title":"Coffee"'));
});
