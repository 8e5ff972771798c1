// The examples in docs/ do what the pages show: each Caddyfile is started in
// front of a fresh petstore, and the commands below it print what is there.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Names, examplesOf, linesOf, optionsIn, withoutBlankEnd } from './lib/page.mjs';
import { Program, finished, installed, root, until } from './lib/program.mjs';
import { Caddy, adapt, freePorts, startPetstore } from './lib/site.mjs';

const pages = ['poll.md', 'operations.md'];
const examples = new Map();
for (const page of pages) examples.set(page, (await examplesOf(page)).filter(({ commands }) => commands.length > 0));

// How long what the page shows may take, and how long a write whose effect is
// not shown is waited for.
const patience = 10_000;
const effect = 1_500;

test('every option of poll has an example that is run here', async (t) => {
  const shown = new Set(examples.get('poll.md').flatMap(({ caddyfile }) => optionsIn(caddyfile)));
  const missing = (await optionsOfPoll(t)).filter((option) => !shown.has(option));
  assert.deepEqual(missing, [], 'docs/poll.md shows no commands for these');
});

const promtool = installed(/^promtool$/);

test('the alert rules are such as Prometheus takes', { skip: !promtool && 'promtool is missing' }, async (t) => {
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
      await terminal.settle();
    });
  });
}

// optionsOfPoll are those that the parser names when it is given another.
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

// Terminal is where an example's commands are typed, on ports of its own.
class Terminal {
  static async open(t, caddyfile) {
    const terminal = new Terminal();
    const [http, backend, admin] = await freePorts(3);
    terminal.ports = { 8080: http, 9001: backend, 2019: admin };
    terminal.names = new Names();
    terminal.streams = [];
    terminal.petstore = await startPetstore(backend, ['-webhook', '', '-shop', '0', '-step', '1h']);
    t.after(() => terminal.close());
    terminal.caddy = await Caddy.start(terminal.onOwnPorts(withGlobals(caddyfile)), { url: `http://localhost:${http}` });
    return terminal;
  }

  async close() {
    for (const { program } of this.streams) await program.stop();
    await this.caddy?.stop();
    await this.petstore.stop('SIGKILL'); // else it waits for connections that nobody has used yet
  }

  onOwnPorts(text) {
    return text.replace(/\b(8080|9001|2019)\b/g, (port) => this.ports[port]);
  }

  // start starts a command in the folder that goes with the site.
  start(command) {
    const line = this.onOwnPorts(this.names.of(command.line));
    return new Program('bash', ['-c', line], { cwd: this.caddy.folder, isGroup: true });
  }

  run(typed) {
    const command = { ...typed, shown: typed.shown.map((line) => this.onOwnPorts(line)) };
    if (command.isStream) return this.watch(command);
    return command.line.includes('localhost:2019') ? this.inspect(command) : this.type(command);
  }

  // watch starts a stream, and waits until it is open: its first event is there.
  async watch(command) {
    const stream = new Stream(command, this.start(command), this.names);
    this.streams.push(stream);
    const opening = command.shown.findIndex((line) => line.startsWith('data:')) + 1;
    const open = command.isInterrupted || opening === 0 ? command.shown.length : opening;
    await this.shows(stream, () => stream.matched() >= open);
    if (command.isInterrupted) await stream.program.stop();
  }

  // type runs a command to its end, and waits for what a write brings about
  // before the next: two at once would be one change.
  async type(command) {
    const before = this.progress();
    const program = this.start(command);
    await program.ended;
    this.expect(command, program.stdout);
    if (command.isWrite && this.streams.some((stream) => !stream.isShown())) {
      await until('a change shows', () => this.progress() > before, effect).catch(() => {}); // it need not bring one about
    }
  }

  // inspect asks the admin API until it answers as shown: what it tells of goes
  // on by itself.
  async inspect(command) {
    let output;
    await until('the admin API answers as shown', async () => {
      const program = this.start(command);
      await program.ended;
      output = program.stdout;
      return this.isShown(command, output);
    }, patience).catch(() => this.expect(command, output));
  }

  // settle waits until all streams have shown what they should, and no more.
  async settle() {
    for (const stream of this.streams) {
      await this.shows(stream, () => stream.isShown());
      this.expect(stream.command, stream.program.stdout);
    }
  }

  async shows(stream, condition) {
    await until('the stream shows what the page does', () => condition() || stream.isWrong(), patience).catch(() => {});
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
    assert.fail(`$ ${command.line}\nthe page shows:\n${command.shown.join('\n')}\n\nbut it printed:\n${output}\nCaddy has said:\n${log}`);
  }
}

// Stream is a command that goes on while others are typed.
class Stream {
  constructor(command, program, names) { Object.assign(this, { command, program, names }); }

  printed() { return linesOf(this.program.stdout, this.program.isRunning); }

  // matched is how many lines of what is shown have been printed.
  matched() {
    const printed = this.printed();
    const wrong = this.command.shown.findIndex((line, i) => printed[i] === undefined || !this.names.matches(line, printed[i]));
    return wrong === -1 ? this.command.shown.length : wrong;
  }

  isShown() { return this.matched() === this.command.shown.length; }

  // isWrong tells that what is printed next won't make it right.
  isWrong() { return !this.isShown() && (!this.program.isRunning || this.printed().length > this.matched()); }
}

// withGlobals keeps a Caddyfile of a page to this machine.
function withGlobals(caddyfile) {
  const own = '\tadmin localhost:2019\n\tdefault_bind 127.0.0.1\n';
  return caddyfile.startsWith('{\n') ? caddyfile.replace('{\n', () => `{\n${own}`) : `{\n${own}}\n${caddyfile}`;
}
