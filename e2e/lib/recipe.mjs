// What docs/recipes.md says, run: the tests have no Caddyfile of their own.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from './program.mjs';
import { replaced } from './site.mjs';

// recipe returns the Caddyfile below a heading of the page, with the pieces
// replaced that differ on this machine.
export async function recipe(heading, replacements) {
  const page = await readFile(join(root, 'docs', 'recipes.md'), 'utf8');
  const section = page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  const [, caddyfile] = section.match(/^```caddyfile\n(.*?)^```$/ms);
  const site = Object.entries(replacements).reduce((text, [piece, by]) => replaced(text, piece, by), caddyfile);
  return `{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\tskip_install_trust\n\tlocal_certs\n\tauto_https disable_redirects\n}\n${site}`;
}
