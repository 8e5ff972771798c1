// Runs the examples of docs/: each Caddyfile in front of a new petstore, then the
// commands below it, and compares their output with the page.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Names, examplesOf, linesOf, optionsIn, withoutBlankEnd } from './lib/page.mjs';
import { Program, finished, installed, root, until } from './lib/program.mjs';
import { Caddy, adapt, freePorts, startPetstore } from './lib/site.mjs';

const pages = ['poll.md', 'operations.md', 'multiplex.md'];
const examples = new Map();
for (const page of pages) examples.set(page, (await examplesOf(page)).filter(({ commands }) => commands.length > 0));

// patience limits the wait for the page's output, in milliseconds; effect the wait
// for a write that may have no visible effect.
const patience = 10_000;
const effect = 1_500;

test('every option of poll has an example that this test runs', async (t) => {
  const shown = new Set(examples.get('poll.md').flatMap(({ caddyfile }) => optionsIn(caddyfile)));
  const missing = (await optionsOfPoll(t)).filter((option) => !shown.has(option));
  assert.deepEqual(missing, [], 'docs/poll.md has no commands for these');
});

const promtool = installed(/^promtool$/);

test('Prometheus accepts the alert rules of operations.md', { skip: !promtool && 'promtool is missing' }, async (t) => {
  const page = await readFile(join(root, 'docs', 'operations.md'), 'utf8');
  const [, rules] = page.match(/^```yaml\n(groups:.*?)^```$/ms);
  const file = join(await folderFor(t), 'rules.yml');
  await writeFile(file, rules);
  const { code, stdout, stderr } = await finished(promtool, ['check', 'rules', file]);
  assert.equal(code, 0, stdout + stderr);
});

for (const [page, list] of examples) {
  list.forEach(({ heading, caddyfile, commands }, i) => {
    test(`${page}, example ${i + 1}: ${heading}`, async (t) => {
      const terminal = await Terminal.open(t, caddyfile);
      for (const command of commands) await terminal.run(command);
      await terminal.streamsShown();
    });
  });
}

// optionsOfPoll returns the options that the parser lists for an unknown one.
async function optionsOfPoll(t) {
  const file = join(await folderFor(t), 'Caddyfile');
  await writeFile(file, 'localhost {\n\tsse {\n\t\tpoll 1s {\n\t\t\tno_such_option\n\t\t}\n\t}\n}\n');
  const { stderr } = await adapt(file);
  const [, names] = stderr.match(/no_such_option.* of poll: want one of (.*?), at /);
  return names.split(', ');
}

async function folderFor(t) {
  const folder = await mkdtemp(join(tmpdir(), 'caddy-sse-e2e-'));
  t.after(() => rm(folder, { recursive: true }));
  return folder;
}

// Terminal runs an example's commands, on free ports.
class Terminal {
  static async open(t, caddyfile) {
    const terminal = new Terminal();
    const [http, backend, admin] = await freePorts(3);
    terminal.ports = { 8080: http, 9001: backend, 2019: admin };
    terminal.names = new Names();
    terminal.streams = [];
    terminal.petstore = await startPetstore(backend, { flags: ['-webhook', '', '-shop', '0', '-step', '1h'] });
    t.after(() => terminal.close());
    terminal.caddy = await Caddy.start(terminal.onOwnPorts(withGlobals(caddyfile)), { url: `http://localhost:${http}` });
    return terminal;
  }

  async close() {
    for (const { program } of this.streams) await program.stop();
    await this.caddy?.stop();
    await this.petstore.stop('SIGKILL'); // with SIGTERM it waits for unused connections
  }

  onOwnPorts(text) {
    return text.replace(/\b(8080|9001|2019)\b/g, (port) => this.ports[port]);
  }

  // start starts a command in the site's folder.
  start(command) {
    const line = this.onOwnPorts(this.names.of(command.line));
    return new Program('bash', ['-c', line], { cwd: this.caddy.folder, isGroup: true });
  }

  run(typed) {
    const command = { ...typed, shown: typed.shown.map((line) => this.onOwnPorts(line)) };
    if (command.isStream) return this.startStream(command);
    return command.line.includes('localhost:2019') ? this.inspect(command) : this.type(command);
  }

  // startStream starts a stream and waits for its first event, or for a position.
  async startStream(command) {
    const stream = new Stream(command, this.start(command), this.names);
    this.streams.push(stream);
    const opening = command.shown.findIndex((line, i) => line.startsWith('data:') || line.startsWith('id:') && command.shown[i + 1] === '') + 1;
    const open = command.isInterrupted || opening === 0 ? command.shown.length : opening;
    await this.shows(stream, () => stream.matched() >= open);
    if (command.isInterrupted) await stream.program.stop();
  }

  // type runs a command to its end. After a write it waits for the effect: two
  // writes at once would be one change.
  async type(command) {
    const before = this.progress();
    const program = this.start(command);
    await program.ended;
    this.expect(command, program.stdout);
    if (command.isWrite && this.streams.some((stream) => !stream.isShown())) {
      await until('the write has an effect', () => this.progress() > before, effect).catch(() => {}); // it may have none
    }
  }

  // inspect repeats a command that asks the admin API until its output matches,
  // because the state changes by itself.
  async inspect(command) {
    let output;
    await until('the admin API responds as shown', async () => {
      const program = this.start(command);
      await program.ended;
      output = program.stdout;
      return this.isShown(command, output);
    }, patience).catch(() => this.expect(command, output));
  }

  // streamsShown waits until all streams have printed the page's output, and no more.
  async streamsShown() {
    for (const stream of this.streams) {
      await this.shows(stream, () => stream.isShown());
      this.expect(stream.command, stream.program.stdout);
    }
  }

  async shows(stream, condition) {
    await until('the stream prints the page\'s output', () => condition() || stream.isWrong(), patience).catch(() => {});
    if (!condition()) this.expect(stream.command, stream.program.stdout);
  }

  progress() { return this.streams.reduce((sum, stream) => sum + stream.matched(), 0); }

  isShown(command, output) {
    const printed = withoutBlankEnd(linesOf(output));
    return printed.length === command.shown.length && command.shown.every((line, i) => this.names.matches(line, printed[i]));
  }

  expect(command, output) {
    if (this.isShown(command, output)) return;
    const log = this.caddy.program.tail();
    assert.fail(`$ ${command.line}\nthe page shows:\n${command.shown.join('\n')}\n\nbut the command printed:\n${output}\nCaddy's log:\n${log}`);
  }
}

// Stream is a command that runs while others run.
class Stream {
  constructor(command, program, names) { Object.assign(this, { command, program, names }); }

  printed() { return linesOf(this.program.stdout, this.program.isRunning); }

  // matched returns how many of the page's lines the command has printed.
  matched() {
    const printed = this.printed();
    const wrong = this.command.shown.findIndex((line, i) => printed[i] === undefined || !this.names.matches(line, printed[i]));
    return wrong === -1 ? this.command.shown.length : wrong;
  }

  isShown() { return this.matched() === this.command.shown.length; }

  // isWrong reports whether no further output can match the page.
  isWrong() { return !this.isShown() && (!this.program.isRunning || this.printed().length > this.matched()); }
}

// withGlobals restricts a page's Caddyfile to this machine.
function withGlobals(caddyfile) {
  const own = '\tadmin localhost:2019\n\tdefault_bind 127.0.0.1\n';
  return caddyfile.startsWith('{\n') ? caddyfile.replace('{\n', () => `{\n${own}`) : `{\n${own}}\n${caddyfile}`;
}
