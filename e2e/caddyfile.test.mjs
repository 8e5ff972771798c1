import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { root } from './lib/program.mjs';
import { adapt } from './lib/site.mjs';

test('Caddyfile.example adapts without a warning', async () => {
  const { code, stdout, stderr } = await adapt('Caddyfile.example');
  assert.equal(code, 0, stderr);
  assert.equal(stderr.trim(), '');
  JSON.parse(stdout);
});

test('the petstore\'s page quotes lines of Caddyfile.example in their order', async () => {
  const page = await readFile(join(root, 'examples/petstore/web/index.html'), 'utf8');
  const [, snippet] = page.match(/<pre[^>]*><code>(.*?)<\/code><\/pre>/s);
  const shown = lines(snippet.replace(/<i>.*?<\/i>/g, '').replace(/<\/?b>/g, ''));
  const file = lines(await readFile(join(root, 'Caddyfile.example'), 'utf8'));
  let at = -1;
  for (const line of shown) {
    at = file.indexOf(line, at + 1);
    assert.notEqual(at, -1, `"${line}" is not in Caddyfile.example, or not in this order`);
  }
});

// lines returns the lines without indentation, comments and blank lines.
function lines(text) {
  return text.split('\n').map((line) => line.replace(/(^|\s)#.*/, '').trim()).filter(Boolean);
}
