// Parses a page of docs/: Caddyfiles, commands, and their output.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from './program.mjs';

// examplesOf returns a page's Caddyfiles, each with the commands of the console
// blocks up to the next Caddyfile.
export async function examplesOf(page) {
  const text = await readFile(join(root, 'docs', page), 'utf8');
  const examples = [];
  let heading = '';
  for (const [, title, kind, content] of text.matchAll(/^#+ ([^\n]*)$|^```([\w-]*)\n(.*?)^```$/gms)) {
    if (title) heading = title;
    else if (kind === 'caddyfile') examples.push({ heading, caddyfile: content, commands: [] });
    else if (kind === 'console' && examples.length > 0) examples.at(-1).commands.push(...commandsOf(content));
  }
  return examples;
}

// commandsOf returns the lines that begin with $, each with the output below it. A
// backslash at a line's end continues the command. ^C interrupts it.
function commandsOf(block) {
  const commands = [];
  let continues = false;
  for (const line of linesOf(block, true)) {
    if (continues) commands.at(-1).line += `\n${line}`;
    else if (line.startsWith('$ ')) commands.push({ line: line.slice(2), shown: [] });
    else commands.at(-1).shown.push(line);
    continues = commands.at(-1).shown.length === 0 && line.endsWith('\\');
  }
  for (const command of commands) {
    command.isStream = /\bcurl -\w*N/.test(command.line);
    command.isWrite = /\bcurl\b.* (-X|-d|--json) /s.test(command.line);
    command.isInterrupted = command.shown.at(-1) === '^C';
    if (command.isInterrupted) command.shown.pop();
    command.shown = withoutBlankEnd(command.shown);
  }
  return commands;
}

// linesOf returns the lines of a text. Of a growing text it returns only complete
// lines.
export function linesOf(text, isGrowing = false) {
  const lines = text.replaceAll('\r', '').split('\n');
  return isGrowing ? lines.slice(0, -1) : lines;
}

export function withoutBlankEnd(lines) {
  return lines.slice(0, lines.findLastIndex((line) => line !== '') + 1);
}

// Texts that differ from run to run. Later commands can use a text with isName,
// such as a position in Last-Event-ID.
const volatile = [
  { at: /(?<=^id: )\S{1,64}/, isName: true },
  { at: /(?<=^Etag: )".+"/, isName: true },
  { at: /(?<="ids":\[")[^"]{1,64}/, isName: true },
  { at: /(?<="last":\{"id":")[^"]{1,64}/ },
  { at: /(?<=^retry: )\d+/ },
  { at: /(?<=^Date: )\w{3}, .*/ },
  { at: /(?<=^Age: )\d+/ },
  { at: /(?<="view":")[^"]{16,}/ },
  { at: /(?<="polls":)\d+/ },
  { at: /(?<="interval":)\d+\.\d+/ },
  { at: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)/ },
];

// Names maps the page's volatile names to those of this run.
export class Names {
  constructor() { this.actual = new Map(); }

  // matches compares a line of the page with a printed one. On the page … matches
  // anything.
  matches(shown, printed) {
    const { pattern, names } = patternOf(shown);
    const found = printed.match(pattern);
    names.forEach((name, i) => { if (found) this.actual.set(name, found[i + 1]); });
    return found !== null;
  }

  // of returns a command of the page with this run's names.
  of(command) {
    return [...this.actual].reduce((text, [page, actual]) => text.replaceAll(page, () => actual), command);
  }
}

function patternOf(line) {
  const names = [];
  let source = '';
  let rest = 0;
  for (const { at, index, text, isName } of volatileIn(line)) {
    if (index < rest) continue;
    source += literal(line.slice(rest, index)) + (isName ? `(${bare(at)})` : `(?:${bare(at)})`);
    if (isName) names.push(text);
    rest = index + text.length;
  }
  return { pattern: new RegExp(`^${source}${literal(line.slice(rest))}$`), names };
}

function volatileIn(line) {
  const found = volatile.flatMap((kind) => [...line.matchAll(new RegExp(kind.at, 'g'))].map((m) => ({ ...kind, index: m.index, text: m[0] })));
  return found.sort((a, b) => a.index - b.index);
}

// bare returns a pattern without its lookbehind.
const bare = (pattern) => pattern.source.replace(/^\(\?<=.*?\)/, '');

const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll('…', '.*');

// optionsIn returns the options of the poll blocks in a formatted Caddyfile.
export function optionsIn(caddyfile) {
  const blocks = [...caddyfile.matchAll(/^(\t+)poll [^\n]*\{\n(.*?)^\1\}$/gms)];
  return blocks.flatMap(([, indent, block]) => [...block.matchAll(new RegExp(`^${indent}\t([a-z_]+)`, 'gm'))].map(([, name]) => name));
}
