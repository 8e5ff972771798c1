// An app without streams: a PUT sets the JSON document at a path, and one list comes
// in chunks.
import { createServer } from 'node:http';

export class Documents {
  static async start() {
    const it = new Documents();
    it.documents = new Map();
    it.lists = [];
    it.server = createServer((request, response) => it.respond(request, response));
    await new Promise((resolve, reject) => it.server.once('error', reject).listen(0, '127.0.0.1', resolve));
    it.address = `127.0.0.1:${it.server.address().port}`;
    return it;
  }

  async respond(request, response) {
    response.setHeader('Content-Type', 'application/json');
    if (request.method === 'PUT') {
      let body = '';
      for await (const part of request) body += part;
      this.documents.set(request.url, body);
      response.writeHead(204).end();
    } else if (request.url === '/v1/recommendations') {
      response.write('[\n');
      this.lists.push(response);
    } else {
      const document = this.documents.get(request.url);
      response.writeHead(document ? 200 : 404).end(document ?? '{}');
    }
  }

  async close() {
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.server.closeAllConnections();
    await closed;
  }
}
