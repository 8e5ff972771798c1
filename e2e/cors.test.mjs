// Pages of other origins in Chromium, and what cors allows them.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch } from './lib/browser.mjs';
import { Caddy, freePorts } from './lib/site.mjs';

describe('a page of another origin', () => {
  let browser, caddy, api, named, other;

  before(async () => {
    const [a, b, c] = await freePorts(3);
    [api, named, other] = [a, b, c].map((port) => `http://localhost:${port}`);
    caddy = await Caddy.start(`
{
	admin off
	default_bind 127.0.0.1
}
${api} {
	sse /named* {
		poll 1h
		cors ${named}
	}
	sse /any* {
		poll 1h
		cors *
	}
	sse /none* {
		poll 1h
	}
	sse /events {
		topic news
		cors ${named}
	}
	sse /publish {
		publish {
			token s3cret
		}
	}
	@pages {
		path /publish-from-pages
		header Origin ${named}
	}
	header @pages Access-Control-Allow-Origin ${named}
	@preflight {
		path /publish-from-pages
		method OPTIONS
		header Origin ${named}
	}
	handle @preflight {
		header Access-Control-Allow-Headers "Authorization, Content-Type"
		respond 204
	}
	sse /publish-from-pages {
		publish {
			token s3cret
		}
	}
	header /login Set-Cookie "session=ann; Path=/"
	header /any/own Access-Control-Allow-Origin {header.Origin}
	header /any/own Access-Control-Allow-Credentials true
	handle {
		header Content-Type application/json
		respond \`{"session":"{cookie.session}","token":"{header.Authorization}","trace":"{header.X-Api-Key}"}\`
	}
}
${named}, ${other} {
	header Content-Type text/html
	respond "<title>A page</title>"
}
`, { url: api });
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await caddy?.stop();
  });

  // open shows a page of the origin, in a browser that is logged in at the API.
  async function open(t, origin) {
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await context.newPage();
    await page.goto(`${api}/login`);
    await page.goto(origin);
    return page;
  }

  // listen returns the data of the first event, or the error.
  const listen = (page, url, withCredentials) => page.evaluate(([url, withCredentials]) => new Promise((resolve) => {
    const source = new EventSource(url, { withCredentials });
    source.onmessage = ({ data }) => { source.close(); resolve(JSON.parse(data)); };
    source.onerror = () => { source.close(); resolve('error'); };
  }), [url, withCredentials]);

  // stream reads the first event of a stream that fetch has opened.
  const stream = (page, url, headers, credentials) => page.evaluate(async ([url, headers, credentials]) => {
    const response = await fetch(url, { headers: { Accept: 'text/event-stream', ...headers }, credentials }).catch(() => undefined);
    if (!response) return 'error';
    let text = '';
    for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
      text += piece;
      const found = text.match(/^data: (.*)\n\n/m);
      if (found) return JSON.parse(found[1]);
    }
    return text;
  }, [url, headers, credentials]);

  const post = (page, url) => page.evaluate(([url]) => fetch(url, {
    method: 'POST', headers: { 'Content-Type': 'application/json', Authorization: 'Bearer s3cret' }, body: JSON.stringify({ topic: 'news', data: 'hello' }),
  }).then((response) => response.json(), () => 'error'), [url]);

  const nobody = { session: '', token: '', trace: '' };
  const ann = { ...nobody, session: 'ann' };

  test('opens an EventSource with the user\'s cookies if cors names the origin', async (t) => {
    for (const [origin, path, withCredentials, want] of [
      [() => named, '/named', true, ann],
      [() => named, '/named', false, nobody],
      [() => named, '/none', true, 'error'],
      [() => named, '/any', false, nobody],
      [() => named, '/any', true, 'error'],
      [() => other, '/named', true, 'error'],
      [() => other, '/named', false, 'error'],
      [() => other, '/any', false, nobody],
    ]) {
      assert.deepEqual(await listen(await open(t, origin()), api + path, withCredentials), want, `${path} ${withCredentials} from ${origin()}`);
    }
    assert.deepEqual(await listen(await open(t, api), `${api}/none`, false), ann, 'a page of the same origin needs no cors');
  });

  test('opens a stream with headers of its own, after a preflight', async (t) => {
    const headers = { Authorization: 'Bearer b', 'X-Api-Key': 'k' };
    const asked = { ...nobody, token: 'Bearer b', trace: 'k' };
    for (const [origin, path, credentials, want] of [
      [() => named, '/named', 'omit', asked],
      [() => named, '/named', 'include', { ...asked, session: 'ann' }],
      [() => named, '/none', 'omit', 'error'],
      [() => named, '/any', 'omit', asked],
      [() => named, '/any', 'include', 'error'],
      [() => other, '/named', 'omit', 'error'],
      [() => other, '/any', 'omit', asked],
    ]) {
      assert.deepEqual(await stream(await open(t, origin()), api + path, headers, credentials), want, `${path} ${credentials} from ${origin()}`);
    }
  });

  test('reads an ordinary response only if the backend allows it', async (t) => {
    const read = (page, url) => page.evaluate((url) => fetch(url, { credentials: 'include' }).then((response) => response.json(), () => 'error'), url);
    assert.equal(await read(await open(t, named), `${api}/named`), 'error');
    assert.deepEqual(await read(await open(t, named), `${api}/any/own`), ann, 'with cors *, the backend\'s own headers count');
  });

  test('publishes only if the site answers its preflight', async (t) => {
    const page = await open(t, named);
    const events = listen(page, `${api}/events`, true);
    assert.equal(await post(page, `${api}/publish`), 'error');
    let published;
    do published = await post(page, `${api}/publish-from-pages`); while (published.streams === 0);
    assert.equal(published.streams, 1);
    assert.equal(await events, 'hello');
    assert.equal(await post(await open(t, other), `${api}/publish-from-pages`), 'error');
  });
});
