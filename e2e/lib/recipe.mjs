// What docs/recipes.md says, run: the tests have no Caddyfile, no page and no
// curl line of their own.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from './program.mjs';
import { replaced } from './site.mjs';

const options = '{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\tskip_install_trust\n\tlocal_certs\n\tauto_https disable_redirects\n}\n';

// recipe returns the Caddyfile below a heading of the page, with the pieces
// replaced that differ on this machine.
export async function recipe(heading, replacements) {
  const caddyfile = block(await section(heading), 'caddyfile');
  return options + Object.entries(replacements).reduce((text, [piece, by]) => replaced(text, piece, by), caddyfile);
}

// wholeRecipe returns all that a recipe has to run, with the pieces replaced
// wherever they stand.
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

async function section(heading) {
  const page = await readFile(join(root, 'docs', 'recipes.md'), 'utf8');
  const found = page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  if (!found) throw new Error(`docs/recipes.md has no recipe ${heading}`);
  return found;
}

function block(text, language) {
  return text.match(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'ms'))?.[1];
}

// sessionOf takes a terminal's text apart: the lines that are typed, each with
// what is printed below it. A line that only sets a variable is put before the
// next ones, since each has a shell of its own.
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
