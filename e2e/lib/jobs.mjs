// An app with long jobs, which a test advances.
import { createServer } from 'node:http';

export class Jobs {
  static async start() {
    const it = new Jobs();
    it.jobs = [];
    it.server = createServer((request, response) => it.respond(request, response));
    await new Promise((resolve, reject) => it.server.once('error', reject).listen(0, '127.0.0.1', resolve));
    it.address = `localhost:${it.server.address().port}`;
    return it;
  }

  respond({ method, url }, response) {
    response.setHeader('Content-Type', 'application/json');
    if (method === 'POST') {
      const path = `/jobs/${this.jobs.push({ state: 'running', done: 0, total: 5 })}`;
      response.writeHead(202, { Location: path }).end(JSON.stringify({ job: path }));
      return;
    }
    const job = this.jobs[url.match(/^\/jobs\/(\d+)$/)?.[1] - 1];
    response.writeHead(job ? 200 : 404).end(JSON.stringify(job ?? {}));
  }

  // advance sets the progress of every job.
  advance(done) {
    for (const job of this.jobs) Object.assign(job, { done, state: done === job.total ? 'done' : 'running' });
  }

  async close() {
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.server.closeAllConnections();
    await closed;
  }
}
