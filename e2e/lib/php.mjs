// The system's PHP-FPM, with a configuration and a folder of its own.
import { existsSync } from 'node:fs';
import { chmod, chown, copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Program, installed, root, until } from './program.mjs';

// Debian's program has its version in its name.
export const phpFPM = installed(/^php-fpm[\d.]*$/);

const nobody = { name: 'nobody', id: 65534 }; // the scripts' user if the tests run as root

const isRoot = () => process.getuid() === 0;

export class PHP {
  // start serves copies of the scripts: the user nobody may not read the project's.
  static async start(scripts) {
    const php = new PHP();
    php.folder = await mkdtemp(join(tmpdir(), 'caddy-sse-php-'));
    php.public = join(php.folder, 'public');
    php.socket = join(php.folder, 'php-fpm.sock');
    await mkdir(php.public);
    await mkdir(join(php.folder, 'sessions'));
    for (const script of scripts) await copyFile(join(root, 'e2e', 'php', script), join(php.public, script));
    for (const path of ['', 'public', 'sessions']) await php.own(join(php.folder, path));
    await chmod(php.folder, 0o755);
    const config = join(php.folder, 'php-fpm.conf');
    await writeFile(config, php.configuration(isRoot() ? nobody.name : ''));
    php.program = new Program(phpFPM, ['--nodaemonize', '--force-stderr', '--fpm-config', config], { lastSignal: 'SIGTERM' });
    await until('php-fpm listens', () => {
      if (!php.program.isRunning) throw new Error(`php-fpm has ended; its output:\n${php.program.tail()}`);
      return existsSync(php.socket);
    });
    return php;
  }

  // own gives a folder, with all in it, to the user of the scripts.
  async own(folder) {
    if (!isRoot()) return;
    await chown(folder, nobody.id, nobody.id);
    for (const name of await readdir(folder, { recursive: true })) await chown(join(folder, name), nobody.id, nobody.id);
  }

  configuration(user) {
    return `
[global]
error_log = ${this.folder}/php-fpm.log
[www]
${user && `user = ${user}`}
listen = ${this.socket}
pm = static
pm.max_children = 5
catch_workers_output = yes
php_admin_value[session.save_path] = ${this.folder}/sessions
`;
  }

  async stop() {
    await this.program.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}
