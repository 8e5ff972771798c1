// Transmission's RPC, as its rpc-spec.md describes it: JSON-RPC by POST, behind a
// handshake. A test advances the downloads.
import { createServer } from 'node:http';

const session = 'PgFy8f4qCVpgiSHR';

export class Transmission {
  static async start() {
    const it = new Transmission();
    it.handshakes = 0;
    it.torrents = [{ id: 1, name: 'debian-13.iso', percentDone: 0.25 }];
    it.server = createServer((request, response) => { it.respond(request, response).catch(() => response.destroy()); }); // a poll may be given up
    await new Promise((resolve, reject) => it.server.once('error', reject).listen(0, '127.0.0.1', resolve));
    it.address = `localhost:${it.server.address().port}`;
    return it;
  }

  async respond(request, response) {
    let text = '';
    for await (const piece of request) text += piece;
    if (request.method !== 'POST' || request.url !== '/transmission/rpc') return response.writeHead(405).end();
    if (request.headers['x-transmission-session-id'] !== session) {
      this.handshakes++;
      return response.writeHead(409, { 'X-Transmission-Session-Id': session, 'Content-Type': 'text/html' }).end('<h1>409: Conflict</h1>');
    }
    const { method, arguments: { fields = [], ids } = {} } = JSON.parse(text);
    if (method === 'torrent-remove') this.torrents = this.torrents.filter(({ id }) => !ids.includes(id));
    const torrents = this.torrents.map((torrent) => Object.fromEntries(fields.map((field) => [field, torrent[field]])));
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify({ arguments: method === 'torrent-get' ? { torrents } : {}, result: 'success' }));
  }

  async close() {
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.server.closeAllConnections();
    await closed;
  }
}
