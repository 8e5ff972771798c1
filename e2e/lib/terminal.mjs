// A terminal in which the lines of a recipe are typed.
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

  // type runs the lines one after the other. The one with the stream goes on; of
  // the others the output is compared with the page's.
  async type(session) {
    for (const line of session) await (line.isStream ? this.watch(line) : this.run(line));
  }

  async run({ command, output }) {
    const { code, stdout, stderr } = await finished('bash', ['-c', command], { cwd: this.cwd });
    assert.equal(code, 0, command + stderr);
    assert.equal(settled(stdout).trimEnd(), settled(output).trimEnd(), command);
  }

  // watch waits for the stream's beginning, of a poll with the document: what
  // happens from then on is in it.
  async watch({ command, output }) {
    this.wanted = settled(output);
    this.stream = new Program('bash', ['-c', `exec ${command}`], { cwd: this.cwd });
    await this.prints(command.includes('Accept: ') ? '\n\n' : 'retry: ');
  }

  get printed() { return this.stream.stdout; }

  prints(text) { return until(`the stream has ${text}`, () => this.printed.includes(text), 10_000); }

  // printsAll waits until the stream has printed what the page says. Anything
  // else is an error.
  async printsAll() {
    await until('the stream has printed', () => settled(this.printed).length >= this.wanted.length, 10_000).catch(() => {});
    assert.equal(settled(this.printed), this.wanted);
  }

  // ends waits until the server has ended the stream, and returns curl's status.
  async ends() {
    await until('the stream ends', () => !this.stream.isRunning, 10_000);
    return this.stream.ended;
  }
}

// settled leaves out what is another at each run: ids that are the log's own or a
// digest, and when a client shall come back.
function settled(text) {
  return text
    .replace(/^retry: \d+$/gm, 'retry: …')
    .replace(/\b[a-z0-9]{10}-\d+\b/g, '…')
    .replace(/^id: [\w-]{32}$/gm, 'id: …');
}
