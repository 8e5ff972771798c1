// Programs that tests start, and stop by their pid.
import { spawn } from 'node:child_process';
import { accessSync, constants, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

const maxOutput = 1 << 20;
const running = new Set();

// When the tests end, for whatever reason, their programs end.
process.on('exit', () => { for (const program of running) program.kill(program.lastSignal); });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

export class Program {
  // lastSignal stops the program when the tests end early; a program that must stop
  // its children needs SIGTERM. isGroup stops it with all its children.
  constructor(command, args, { env, cwd = root, lastSignal = 'SIGKILL', isGroup = false } = {}) {
    this.lastSignal = lastSignal;
    this.isGroup = isGroup;
    this.name = [command.split('/').at(-1), args[0]].join(' ');
    this.stdout = '';
    this.stderr = '';
    this.child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'], detached: isGroup });
    for (const stream of ['stdout', 'stderr']) {
      this.child[stream].setEncoding('utf8').on('data', (text) => {
        this[stream] = (this[stream] + text).slice(-maxOutput);
      });
    }
    running.add(this);
    this.ended = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', (code) => {
        running.delete(this);
        resolve(code);
      });
    });
    this.ended.catch(() => running.delete(this));
  }

  get isRunning() { return running.has(this); }

  kill(signal) {
    if (!this.isGroup) return this.child.kill(signal);
    try {
      return process.kill(-this.child.pid, signal);
    } catch {
      return false; // it has already ended
    }
  }

  // stop returns the exit code. It fails if the program does not end in time.
  async stop(signal = 'SIGTERM', millis = 10_000) {
    if (this.isRunning) this.kill(signal);
    const giveUp = new AbortController();
    const tooLate = sleep(millis, 'too late', { signal: giveUp.signal }).catch(() => undefined);
    const code = await Promise.race([this.ended, tooLate]);
    giveUp.abort();
    if (code !== 'too late') return code;
    this.kill('SIGKILL');
    throw new Error(`${this.name} still runs ${millis} ms after ${signal}; its output:\n${this.tail()}`);
  }

  tail() { return (this.stdout + this.stderr).split('\n').slice(-20).join('\n'); }
}

// until polls a condition and returns its first true value.
export async function until(what, condition, millis = 20_000) {
  const end = performance.now() + millis;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > end) throw new Error(`not within ${millis} ms: ${what}`);
    await sleep(20);
  }
}

// responds waits until a program that was just started responds.
export async function responds(program, url, isReady = (response) => response !== null, millis = undefined) {
  try {
    await until(`${program.name} responds on ${url}`, async () => {
      if (!program.isRunning) throw new Error('it has ended');
      const response = await fetch(url).then(readWhole).catch(() => null);
      return isReady(response);
    }, millis);
  } catch (error) {
    await program.stop();
    throw new Error(`${program.name} has not started: ${error.message}; its output:\n${program.tail()}`);
  }
}

// readWhole reads the whole response. An aborted response can leave an unused
// connection, for which a server in Go waits some seconds when it ends.
async function readWhole(response) {
  await response.arrayBuffer();
  return response;
}

// installed finds a program by its name in PATH and /usr/sbin.
export function installed(name) {
  for (const folder of [...process.env.PATH.split(delimiter), '/usr/sbin']) {
    for (const file of filesIn(folder)) {
      if (name.test(file) && isExecutable(join(folder, file))) return join(folder, file);
    }
  }
  return undefined;
}

function filesIn(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

// finished runs a program and waits until it ends.
export async function finished(command, args, options) {
  const program = new Program(command, args, options);
  const code = await program.ended;
  return { code, stdout: program.stdout, stderr: program.stderr };
}
