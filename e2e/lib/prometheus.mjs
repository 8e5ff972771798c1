// The system's Prometheus, with a configuration and data of its own, and an
// exporter for it to scrape.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Program, responds, installed } from './program.mjs';

export const prometheus = installed(/^prometheus$/);

export class Prometheus {
  // targets maps the names of jobs to the addresses that it scrapes each second,
  // in addition to itself.
  static async start(port, targets) {
    const it = new Prometheus();
    it.folder = await mkdtemp(join(tmpdir(), 'caddy-sse-prometheus-'));
    it.address = `127.0.0.1:${port}`;
    it.url = `http://${it.address}`;
    const jobs = Object.entries({ prometheus: it.address, ...targets }).map(([name, target]) => ({
      job_name: name, scrape_interval: '1s', scrape_timeout: '1s', static_configs: [{ targets: [target] }],
    }));
    // Each JSON document is YAML.
    await writeFile(join(it.folder, 'prometheus.yml'), JSON.stringify({ scrape_configs: jobs }));
    await it.begin();
    return it;
  }

  async begin() {
    this.program = new Program(prometheus, [
      `--config.file=${this.folder}/prometheus.yml`,
      `--storage.tsdb.path=${this.folder}/data`,
      `--web.listen-address=${this.address}`,
    ]);
    await responds(this.program, `${this.url}/-/ready`, (response) => response?.ok);
  }

  // end stops it and keeps its data, so that it can begin again.
  end() { return this.program.stop(); }

  async stop() {
    await this.end();
    await rm(this.folder, { recursive: true, force: true });
  }

  async query(expression) {
    const response = await fetch(`${this.url}/api/v1/query?${new URLSearchParams({ query: expression })}`);
    return (await response.json()).data.result;
  }
}

// Exporter serves gauges to Prometheus.
export class Exporter {
  static async start(gauges) {
    const it = new Exporter();
    it.gauges = gauges;
    await it.listen(0);
    it.port = it.server.address().port;
    it.address = `127.0.0.1:${it.port}`;
    return it;
  }

  async listen(port = this.port) {
    this.server = createServer((request, response) => {
      response.setHeader('Content-Type', 'text/plain; version=0.0.4');
      response.end(Object.entries(this.gauges).map(([name, value]) => `${name} ${value}\n`).join(''));
    });
    await new Promise((resolve, reject) => this.server.once('error', reject).listen(port, '127.0.0.1', resolve));
  }

  async close() {
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.server.closeAllConnections();
    await closed;
  }
}
