// The demo on free ports: the petstore, and Caddy with Caddyfile.example.
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Program, responds, finished, root } from './program.mjs';

const caddy = join(root, 'caddy');
const petstore = join(root, '.build', 'petstore');

export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(servers.map((server) => new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

// replaced replaces the first occurrence of a piece of the text. A missing piece is
// an error, because the test would test something else.
export function replaced(text, piece, replacement) {
  if (!text.includes(piece)) throw new Error(`there is no ${JSON.stringify(piece)} in the Caddyfile`);
  return text.replace(piece, () => replacement);
}

// Caddy is a running Caddy with a configuration and a folder of its own.
export class Caddy {
  // url is one of its URLs: any response there shows that it is up.
  static async start(caddyfile, { env = {}, url }) {
    const site = new Caddy();
    site.folder = await mkdtemp(join(tmpdir(), 'caddy-sse-e2e-'));
    site.file = join(site.folder, 'Caddyfile');
    site.env = { ...env, XDG_DATA_HOME: site.folder, XDG_CONFIG_HOME: site.folder };
    await writeFile(site.file, caddyfile);
    site.program = new Program(caddy, ['run', '--config', site.file], { env: site.env });
    await responds(site.program, url);
    return site;
  }

  async reload(caddyfile) {
    await writeFile(this.file, caddyfile);
    const { code, stderr } = await finished(caddy, ['reload', '--config', this.file], { env: this.env });
    if (code !== 0) throw new Error(`caddy reload has failed: ${stderr}`);
  }

  // certificate returns the file of the root certificate that verifies https.
  get certificate() { return join(this.folder, 'caddy', 'pki', 'authorities', 'local', 'root.crt'); }

  async stop() {
    await this.program.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

export function adapt(file) {
  return finished(caddy, ['adapt', '--config', file]);
}

// startPetstore starts only the demo's backend.
export async function startPetstore(port, { env, flags = [] } = {}) {
  const program = new Program(petstore, ['-listen', `127.0.0.1:${port}`, ...flags], { env });
  await responds(program, `http://127.0.0.1:${port}/v1/inventory`);
  return program;
}

// Site is Caddy in front of the petstore.
export class Site {
  // edit changes Caddyfile.example; flags are the petstore's. By default the
  // petstore changes nothing by itself.
  static async start({ edit = (text) => text, flags = [] } = {}) {
    const site = new Site();
    const [http, https, backend, admin] = await freePorts(4);
    const ports = { 8080: http, 8443: https, 9001: backend, 2029: admin };
    const shipped = await readFile(join(root, 'Caddyfile.example'), 'utf8');
    site.ports = ports;
    site.caddyfile = edit(site.onOwnPorts(shipped));
    site.url = `http://localhost:${http}`;
    site.secureUrl = `https://localhost:${https}`;
    site.backendUrl = `http://127.0.0.1:${backend}`;
    site.secret = randomBytes(24);
    site.env = { PETSTORE_WEBHOOK_SECRET: `whsec_${site.secret.toString('base64')}` };
    site.flags = ['-webhook', `${site.url}/hooks/petstore`, '-shop', '0', ...flags];
    await site.startBackend();
    site.caddy = await Caddy.start(site.caddyfile, { env: site.env, url: site.url });
    return site;
  }

  // onOwnPorts replaces the ports of Caddyfile.example by the site's.
  onOwnPorts(text) {
    return text.replace(/\b(8080|8443|9001|2029)\b/g, (port) => this.ports[port]);
  }

  async startBackend() {
    this.backend = await startPetstore(this.ports[9001], { env: this.env, flags: this.flags });
  }

  async stop() {
    await this.caddy?.stop();
    await this.backend.stop();
  }

  // login returns the user's session cookie.
  async login(user) {
    const response = await this.ask('POST', '/v1/login', { body: { user } });
    return response.headers.get('set-cookie').split(';')[0];
  }

  // ask makes a request through Caddy and returns the response with its JSON.
  async ask(method, path, { cookie, body } = {}) {
    const headers = { ...(cookie && { cookie }), ...(body && { 'content-type': 'application/json' }) };
    const response = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    if (!response.ok) throw new Error(`${method} ${path} got ${response.status}: ${await response.text()}`);
    response.content = await response.json().catch(() => null);
    return response;
  }

  async order(cookie, petId = 7) {
    const { content } = await this.ask('POST', '/v1/orders', { cookie, body: { petId, quantity: 1 } });
    return content;
  }

  // restock raises the stock, so that tests can order.
  restock(petId = 7) {
    return this.ask('PATCH', `/v1/inventory/${petId}`, { body: { stock: 500 } });
  }
}
