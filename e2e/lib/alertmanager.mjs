// The system's Alertmanager, with a configuration and data of its own.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Program, responds, installed } from './program.mjs';

export const alertmanager = installed(/^prometheus-alertmanager$/);

export class Alertmanager {
  static async start(address, configuration) {
    const it = new Alertmanager();
    it.url = `http://${address}`;
    it.folder = await mkdtemp(join(tmpdir(), 'caddy-sse-alertmanager-'));
    const file = join(it.folder, 'alertmanager.yml');
    await writeFile(file, configuration);
    it.program = new Program(alertmanager, [
      `--config.file=${file}`,
      `--storage.path=${it.folder}/data`,
      `--web.listen-address=${address}`,
      '--cluster.listen-address=', // no cluster
    ]);
    await responds(it.program, `${it.url}/-/ready`, (response) => response?.ok);
    return it;
  }

  async post(alert) {
    const response = await fetch(`${this.url}/api/v2/alerts`, {
      method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify([alert]),
    });
    if (!response.ok) throw new Error(`Alertmanager responded ${response.status}: ${await response.text()}`);
  }

  async stop() {
    await this.program.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}
