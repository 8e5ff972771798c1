// The page asks with fetch, and reads the answer with an EventSource at the URL from
// which the answer can be resumed. The browser reconnects it, with the id of the last
// event.

const $ = (selector) => document.querySelector(selector);

// The tabs of a browser share the newest answer's URL. It is all that they need.
const saved = {
  get url() { return localStorage.getItem('answer'); },
  set url(url) { localStorage.setItem('answer', url); },
};

let source;

async function ask(question) {
  show('asking');
  const response = await fetch('/v1/chat/completions', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'text/event-stream' },
    body: JSON.stringify({ messages: [{ role: 'user', content: question }], stream: true }),
  });
  const url = response.headers.get('Content-Location');
  if (!response.ok || !url) throw new Error(`the server responded with ${response.status}`);
  await response.body.cancel();
  saved.url = url;
  follow(url);
}

// follow shows the answer at a URL, from its beginning.
function follow(url) {
  source?.close();
  $('#answer').textContent = '';
  source = new EventSource(url);
  show('connecting');
  let isOver = false;
  const end = (state) => {
    isOver = true;
    show(state);
  };
  source.onopen = () => show('live');
  source.onmessage = ({ data, target }) => {
    if (data !== '[DONE]') {
      $('#answer').append(JSON.parse(data).choices[0].delta.content ?? '');
      return;
    }
    target.close();
    end('complete');
  };
  source.addEventListener('stale', () => end('broken off'));
  source.addEventListener('reset', () => end('not kept any more'));
  source.onerror = ({ target }) => {
    if (isOver) return;
    show(target.readyState === EventSource.CLOSED ? 'refused' : 'reconnecting');
  };
}

function show(state) {
  $('#state').textContent = state;
  $('#state').dataset.state = state;
}

$('#ask').addEventListener('submit', (event) => {
  event.preventDefault();
  ask($('#question').value).catch((error) => show(`failed: ${error.message}`));
});
addEventListener('storage', ({ key, newValue }) => { if (key === 'answer' && newValue) follow(newValue); });
if (saved.url) follow(saved.url);
