// Reads docs/recipes.md and works-with.md: the tests run their Caddyfiles, pages
// and commands, and have none of their own.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from './program.mjs';
import { replaced } from './site.mjs';

const options = '{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\tskip_install_trust\n\tlocal_certs\n\tauto_https disable_redirects\n}\n';

// recipe returns the Caddyfile below a heading of the page, and replaces the
// pieces that differ on this machine.
export async function recipe(heading, replacements, page = 'recipes.md') {
  const caddyfile = block(await section(heading, page), 'caddyfile');
  return options + Object.entries(replacements).reduce((text, [piece, by]) => replaced(text, piece, by), caddyfile);
}

// wholeRecipe returns all blocks of a recipe, and replaces the pieces in all of
// them.
export async function wholeRecipe(heading, replacements) {
  const text = Object.entries(replacements).reduce(
    (all, [piece, by]) => replaced(all, piece, by).replaceAll(piece, by),
    await section(heading),
  );
  return {
    caddyfile: options + block(text, 'caddyfile'),
    page: block(text, 'html'),
    yaml: block(text, 'yaml'),
    session: sessionOf(block(text, 'console')),
  };
}

// exactStreams returns the rule and the bytes of each stream that a page already knows,
// by heading.
export async function exactStreams() {
  const parts = (await section('Streams that a page already knows')).split(/^### /m).slice(1);
  return Object.fromEntries(parts.map((part) => [part.slice(0, part.indexOf('\n')), { rule: block(part, 'caddyfile-fragment'), bytes: block(part, 'text') }]));
}

async function section(heading, page = 'recipes.md') {
  const text = await readFile(join(root, 'docs', page), 'utf8');
  const found = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  if (!found) throw new Error(`docs/${page} has no section ${heading}`);
  return found;
}

function block(text, language) {
  return text.match(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'ms'))?.[1];
}

// sessionOf parses a terminal session into commands, each with its output. It puts
// a line that only sets a variable before the next commands, because each has its
// own shell.
function sessionOf(text) {
  let variables = '';
  const session = [];
  for (const part of text.split(/^\$ /m).slice(1)) {
    const [, command, output] = part.match(/^((?:[^\n]*\\\n)*[^\n]*\n)(.*)$/s);
    if (/^\w+=/.test(command)) variables += command;
    else session.push({ command: variables + command, output, isStream: /curl -sN/.test(command) });
  }
  return session;
}
