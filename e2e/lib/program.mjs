// Programs that tests start, and end by their pid.
import { spawn } from 'node:child_process';
import { accessSync, constants, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

const maxOutput = 1 << 20;
const running = new Set();

// Whatever ends the tests ends what they have started.
process.on('exit', () => { for (const program of running) program.kill(program.lastSignal); });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

export class Program {
  // lastSignal ends it when the tests end early. A program that has to end
  // others is given the chance. A group is ended with all that it has started.
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
      return false; // it has just ended
    }
  }

  // stop returns the exit code. A program that won't go is an error.
  async stop(signal = 'SIGTERM', millis = 10_000) {
    if (this.isRunning) this.kill(signal);
    const giveUp = new AbortController();
    const tooLate = sleep(millis, 'too late', { signal: giveUp.signal }).catch(() => undefined);
    const code = await Promise.race([this.ended, tooLate]);
    giveUp.abort();
    if (code !== 'too late') return code;
    this.kill('SIGKILL');
    throw new Error(`${this.name} still runs ${millis} ms after ${signal}; it has said:\n${this.tail()}`);
  }

  tail() { return (this.stdout + this.stderr).split('\n').slice(-20).join('\n'); }
}

// until waits for what can't be listened to. What it returns is the first thing
// that is true.
export async function until(what, condition, millis = 20_000) {
  const end = performance.now() + millis;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > end) throw new Error(`not within ${millis} ms: ${what}`);
    await sleep(20);
  }
}

// answers waits for a program that has been started.
export async function answers(program, url, isReady = (response) => response !== null) {
  try {
    await until(`${program.name} answers on ${url}`, async () => {
      if (!program.isRunning) throw new Error('it has ended');
      const response = await fetch(url).catch(() => null);
      await response?.body?.cancel();
      return isReady(response);
    });
  } catch (error) {
    await program.stop();
    throw new Error(`${program.name} has not started: ${error.message}; it has said:\n${program.tail()}`);
  }
}

// installed finds a program by its name where the system keeps programs.
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

// finished runs a program to its end.
export async function finished(command, args, options) {
  const program = new Program(command, args, options);
  const code = await program.ended;
  return { code, stdout: program.stdout, stderr: program.stderr };
}
