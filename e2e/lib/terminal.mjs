// A terminal that runs the commands of a recipe.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Program, finished, until } from './program.mjs';

export class Terminal {
  static async open() {
    const terminal = new Terminal();
    terminal.cwd = await mkdtemp(join(tmpdir(), 'caddy-sse-terminal-'));
    return terminal;
  }

  async close() {
    await this.stream?.stop();
    await rm(this.cwd, { recursive: true, force: true });
  }

  // type runs the commands one after the other. It leaves a stream open, and
  // compares the output of the others with the page's.
  async type(session) {
    for (const line of session) await (line.isStream ? this.startStream(line) : this.run(line));
  }

  async run({ command, output }) {
    const { code, stdout, stderr } = await finished('bash', ['-c', command], { cwd: this.cwd });
    assert.equal(code, 0, command + stderr);
    assert.equal(withoutVolatile(stdout).trimEnd(), withoutVolatile(output).trimEnd(), command);
  }

  // startStream waits for the stream's start, of a poll with the document, so that
  // the stream has all later events.
  async startStream({ command, output }) {
    this.wanted = withoutVolatile(output);
    this.stream = new Program('bash', ['-c', `exec ${command}`], { cwd: this.cwd });
    await this.prints(command.includes('Accept: ') ? '\n\n' : 'retry: ');
  }

  get printed() { return this.stream.stdout; }

  prints(text) { return until(`the stream prints ${text}`, () => this.printed.includes(text), 10_000); }

  // printsAll waits until the stream has printed the page's output. Any other
  // output is an error.
  async printsAll() {
    await until('the stream prints all lines', () => withoutVolatile(this.printed).length >= this.wanted.length, 10_000).catch(() => {});
    assert.equal(withoutVolatile(this.printed), this.wanted);
  }

  // ends waits until the server has ended the stream, and returns curl's status.
  async ends() {
    await until('the stream ends', () => !this.stream.isRunning, 10_000);
    return this.stream.ended;
  }
}

// withoutVolatile masks what differs from run to run: ids that the log assigns,
// ids that are digests, and the pause before a client reconnects.
function withoutVolatile(text) {
  return text
    .replace(/^retry: \d+$/gm, 'retry: …')
    .replace(/\b[a-z0-9]{10}-\d+(~[\w-]{5})?\b/g, '…')
    .replace(/^id: [\w-]{32}$/gm, 'id: …');
}
