// The page's script. All live data comes from four EventSources. The page uses
// fetch for the user's actions (log in, order) and for the backend's count of
// requests.

const maxTimeline = 200;
const maxNews = 50;
const toastMillis = 5000;
const countMillis = 5000;

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const stamp = (id) => $(`#${id}-template`).content.firstElementChild.cloneNode(true);
const clock = (time) => time.toLocaleTimeString([], { hour12: false });

// ---------------------------------------------------------------- streams

const controlEvents = ['stale', 'reset', 'gone', 'complete'];

// Stream is one EventSource with its state. Data goes to onData; all events,
// including control events, go to the timeline.
class Stream {
  constructor(name, { isPrivate = false, events = [], onData, onReset = () => {}, onEnd = () => {} }) {
    Object.assign(this, { name, isPrivate, events, onData, onReset, onEnd });
    this.path = `/v1/${name}`;
    this.received = 0;
    this.requests = 0;
    this.state = 'closed';
  }

  open() {
    this.source?.close();
    const source = new EventSource(this.path);
    this.source = source;
    this.setState('connecting');
    source.onopen = () => {
      timeline.mark(this.name, 'connected');
      this.setState('live');
    };
    source.onerror = () => this.failed();
    for (const type of ['message', ...this.events]) {
      source.addEventListener(type, (event) => this.receive(event));
    }
    for (const type of controlEvents) {
      source.addEventListener(type, (event) => this.control(event));
    }
  }

  close() {
    this.source?.close();
    this.source = undefined;
    this.showStale(null);
    this.setState('closed');
  }

  receive(event) {
    this.count(event);
    this.showStale(null);
    this.onData(JSON.parse(event.data), event);
  }

  control(event) {
    this.count(event);
    if (event.type === 'stale') this.showStale(parseOrEmpty(event.data));
    if (event.type === 'reset') this.onReset();
    if (event.type === 'gone' || event.type === 'complete') this.end(event.type);
  }

  // end closes a stream that has nothing more to send. An EventSource would connect
  // once more, and close at the response 204.
  end(how) {
    this.source.close();
    this.setState(how);
    this.onEnd();
  }

  count(event) {
    this.received++;
    timeline.add(this.name, event);
    score.show();
  }

  // failed handles an error. The browser reconnects after a lost connection
  // (readyState CONNECTING), and gives up after a response that is no stream.
  failed() {
    if (this.source.readyState === EventSource.CONNECTING) {
      if (this.state !== 'reconnecting') timeline.mark(this.name, 'connection lost, reconnecting');
      this.setState('reconnecting');
      return;
    }
    timeline.mark(this.name, 'refused');
    this.setState('refused');
    this.onEnd();
    if (this.isPrivate) checkUser();
  }

  setState(state) {
    this.state = state;
    this.showState();
  }

  showState() {
    let shown = this.state;
    if (shown === 'closed' && this.isPrivate && !user) shown = 'logged out';
    if (shown === 'live' && this.isStale) shown = 'stale';
    const label = $('.state', this.card);
    label.textContent = shown;
    label.dataset.state = shown;
    $(`.panel.${this.name}`).dataset.state = shown;
    $('.retry', this.card).hidden = shown !== 'refused';
    showHealth();
  }

  showStale(stale) {
    this.isStale = stale !== null;
    this.showState();
    const badge = $(`[data-stale="${this.name}"]`);
    badge.hidden = !stale;
    if (!stale) return;
    const since = stale.since ? new Date(stale.since) : new Date();
    const why = stale.status ?? stale.reason;
    badge.textContent = `Backend unreachable since ${clock(since)}${why ? ` (${why})` : ''}`;
  }

  // render returns the card with the stream's state and counts.
  render() {
    this.card = stamp('stream');
    $('.stream-path', this.card).textContent = this.path;
    $('.retry', this.card).addEventListener('click', () => this.open());
    $('.retry', this.card).setAttribute('aria-label', `Retry ${this.path}`);
    this.setState('closed');
    return this.card;
  }
}

// The page is as live as the worst of its streams.
const worstFirst = ['refused', 'reconnecting', 'stale', 'connecting'];

function showHealth() {
  const states = streams.map(({ card }) => card && $('.state', card).dataset.state);
  const shown = worstFirst.find((state) => states.includes(state)) ?? 'live';
  $('#health').textContent = shown;
  $('#health').dataset.state = shown;
}

function parseOrEmpty(json) {
  try {
    return JSON.parse(json) ?? {};
  } catch {
    return {};
  }
}

// ---------------------------------------------------------------- timeline

// timeline shows the received events, newest first. While it is paused it holds new
// events, and shows them afterwards.
const timeline = {
  list: $('#timeline'),
  hidden: new Set(),
  held: null,

  add(stream, { type, lastEventId, data }) {
    this.put(stream, { type, id: lastEventId, data, time: new Date() });
  },

  mark(stream, text) {
    this.put(stream, { mark: text, time: new Date() });
  },

  put(stream, entry) {
    const row = this.row(stream, entry);
    if (!this.held) return this.show(row);
    this.held.push(row);
    if (this.held.length > maxTimeline) this.held.shift();
    this.showHeld();
  },

  show(row) {
    row.hidden = this.hidden.has(row.dataset.stream);
    this.list.prepend(row);
    if (this.list.children.length > maxTimeline) this.list.lastElementChild.remove();
  },

  row(stream, { type, id = '', data = '', mark, time }) {
    const row = stamp('event');
    row.dataset.stream = stream;
    row.classList.toggle('mark', mark !== undefined);
    $('time', row).textContent = clock(time);
    $('time', row).dateTime = time.toISOString();
    $('.event-stream', row).textContent = stream;
    $('.event-name', row).textContent = type ?? '';
    $('.event-name', row).dataset.type = type ?? '';
    $('.event-id', row).textContent = id;
    $('.event-id', row).title = id;
    $('.event-size', row).textContent = mark ? '' : size(data);
    $('.event-preview', row).textContent = mark ?? data.slice(0, 300);
    const details = $('details', row);
    details.addEventListener('toggle', () => { $('pre', row).textContent = details.open ? pretty(data) : ''; });
    return row;
  },

  pause(on) {
    const rows = this.held ?? [];
    this.held = on ? [] : null;
    rows.forEach((row) => this.show(row));
    $('#pause').setAttribute('aria-pressed', on);
    this.showHeld();
  },

  showHeld() {
    $('#pause').textContent = this.held ? `Resume (${this.held.length} held)` : 'Pause';
  },

  clear() {
    this.held &&= [];
    this.list.replaceChildren();
    this.showHeld();
  },

  filter(stream, shown) {
    this.hidden[shown ? 'delete' : 'add'](stream);
    for (const row of this.list.children) row.hidden = this.hidden.has(row.dataset.stream);
  },
};

function size(data) {
  const bytes = new TextEncoder().encode(data).length;
  return bytes < 1000 ? `${bytes} B` : `${(bytes / 1000).toFixed(1)} kB`;
}

function pretty(data) {
  try {
    return JSON.stringify(JSON.parse(data), null, 2);
  } catch {
    return data;
  }
}

// ---------------------------------------------------------------- documents

let pets = new Map();

// reconcile gives list one child per item, in order. It keeps existing children, so
// that they can show a change.
function reconcile(list, items, keyOf, create, update) {
  const old = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, i) => {
    const key = String(keyOf(item));
    const isNew = !old.has(key);
    const child = old.get(key) ?? create(item);
    child.dataset.key = key;
    old.delete(key);
    update(child, item, isNew);
    if (list.children[i] !== child) list.insertBefore(child, list.children[i] ?? null);
  });
  for (const child of old.values()) child.remove();
}

function flash(element) {
  const color = getComputedStyle(element).getPropertyValue('--flash');
  element.animate([{ backgroundColor: color }, { backgroundColor: 'transparent' }], { duration: 1600, easing: 'ease-out' });
}

// setText changes a text and flashes its surroundings, except the first time.
function setText(element, text, surroundings = element) {
  if (element.textContent === text) return;
  const isFirst = element.textContent === '';
  element.textContent = text;
  if (!isFirst) flash(surroundings);
}

function showInventory(document) {
  const before = pets;
  pets = new Map(document.pets.map((pet) => [pet.id, pet]));
  $('#inventory-empty').hidden = true;
  $('#inventory').hidden = false;
  reconcile($('#inventory tbody'), document.pets, (pet) => pet.id, createPet, (row, pet) => {
    updatePet(row, pet, before.get(pet.id));
  });
  showAvailability();
  latency.show(document);
}

// showPicture shows a pet's initial. Not every system has a font with emoji.
function showPicture(element, name) {
  const picture = $('.picture', element);
  picture.textContent = name[0];
  picture.style.setProperty('--hue', [...name].reduce((sum, letter) => sum + letter.codePointAt(0) * 37, 0) % 360);
}

function createPet(pet) {
  const row = stamp('pet');
  const button = $('button', row);
  button.setAttribute('aria-label', `Order ${pet.name}`);
  button.addEventListener('click', () => placeOrder(pet.id, button));
  return row;
}

function updatePet(row, pet, before) {
  showPicture(row, pet.name);
  $('.pet-name', row).textContent = pet.name;
  $('.pet-kind', row).textContent = pet.kind;
  setText($('.stock', row), String(pet.stock));
  $('.stock', row).classList.toggle('none', pet.stock === 0);
  setText($('.amount', row), pet.price, $('.price', row));
  if (before && before.price !== pet.price) showTrend($('.trend', row), Number(pet.price) > Number(before.price));
}

function showTrend(element, isUp) {
  element.className = `trend ${isUp ? 'up' : 'down'}`;
  element.setAttribute('role', 'img');
  element.setAttribute('aria-label', isUp ? 'up' : 'down');
}

// showAvailability enables the buttons of pets that the user can order.
function showAvailability() {
  for (const row of $('#inventory tbody').children) {
    $('button', row).disabled = !user || pets.get(Number(row.dataset.key)).stock === 0;
  }
  $('#surprise').disabled = !user || inStock().length === 0;
}

const inStock = () => [...pets.values()].filter((pet) => pet.stock > 0);

function showOrders(document) {
  $('#orders-empty').textContent = 'None yet: order a pet.';
  $('#orders-empty').hidden = document.orders.length > 0;
  reconcile($('#orders'), document.orders, (order) => order.id, createOrder, updateOrder);
  latency.show(document);
}

function createOrder(order) {
  const card = stamp('order');
  showPicture(card, order.pet);
  $('.order-title', card).textContent = `${order.quantity} × ${order.pet}`;
  $('.order-id', card).textContent = order.id;
  $('.order-total', card).textContent = order.total;
  const cancel = $('.cancel', card);
  cancel.setAttribute('aria-label', `Cancel order ${order.id}`);
  cancel.addEventListener('click', () => act(cancel, () => post(`/v1/orders/${order.id}/cancel`)));
  return card;
}

function updateOrder(card, order, isNew) {
  if (card.dataset.status === order.status) return;
  card.dataset.status = order.status;
  const isCancelled = order.status === 'cancelled';
  $('.cancel', card).hidden = isCancelled || order.status === 'shipped';
  $('.order-cancelled', card).hidden = !isCancelled;
  showSteps(card, order);
  if (!isNew) flash(card);
}

function showSteps(card, order) {
  const reached = new Set(order.history.map((step) => step.status));
  for (const step of $$('.steps li', card)) {
    const isCurrent = step.dataset.status === order.status;
    step.classList.toggle('reached', reached.has(step.dataset.status));
    if (isCurrent) step.setAttribute('aria-current', 'step');
    else step.removeAttribute('aria-current');
  }
}

function addRecommendation(pet) {
  const card = stamp('recommendation');
  showPicture(card, pet.name);
  $('.pet-name', card).textContent = pet.name;
  $('.amount', card).textContent = pet.price;
  $('.reason', card).textContent = pet.reason;
  const button = $('button', card);
  button.setAttribute('aria-label', `Order ${pet.name}`);
  button.addEventListener('click', () => placeOrder(pet.petId, button));
  $('#recommendations').append(card);
  flash(card);
}

function clearRecommendations() {
  $('#recommendations').replaceChildren();
  showThinking(user !== null);
}

function showThinking(on) {
  $('#recommendations-empty').hidden = !on;
  $('#recommend').hidden = on || !user;
}

function recommendAgain() {
  clearRecommendations();
  streams.find((stream) => stream.name === 'recommendations').open();
}

function showNotification(notification, event) {
  const text = notification.message ?? JSON.stringify(notification);
  addNews(text, event.type === 'message' ? '' : event.type);
  toast(text);
}

function addNews(text, type) {
  $('#notifications-empty').hidden = true;
  const item = document.createElement('li');
  const time = document.createElement('time');
  const message = document.createElement('span');
  time.textContent = clock(new Date());
  message.textContent = text;
  item.dataset.type = type;
  item.append(time, message);
  const list = $('#notifications');
  list.prepend(item);
  if (list.children.length > maxNews) list.lastElementChild.remove();
}

function toast(text, kind = 'news') {
  const element = document.createElement('p');
  element.className = `toast ${kind}`;
  element.textContent = text;
  $('#toasts').append(element);
  setTimeout(() => element.remove(), toastMillis);
}

// ---------------------------------------------------------------- user's actions

async function post(path, body, method = 'POST') {
  const response = await fetch(path, {
    method,
    headers: body ? { 'Content-Type': 'application/json' } : {},
    body: body && JSON.stringify(body),
  });
  if (response.ok) return;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401) forgetUser();
  throw new Error(problem.error ?? `The backend responded with ${response.status}.`);
}

// act runs an action, ignores further clicks until it ends, and shows its failure.
async function act(button, action) {
  if (button.ariaBusy === 'true') return;
  button.ariaBusy = 'true';
  try {
    await action();
  } catch (error) {
    toast(`Failed: ${error.message}`, 'failure');
  } finally {
    button.ariaBusy = null;
  }
}

// latency is the time from a change by the user until its document is here.
const latency = {
  // start begins to wait for the document for which isThere is true.
  start(isThere) { Object.assign(this, { isThere, started: performance.now() }); },

  show(document) {
    if (!this.isThere?.(document)) return;
    $('#latency').textContent = `your last change was here after ${Math.round(performance.now() - this.started)} ms`;
    this.isThere = undefined;
  },
};

function placeOrder(petId, button) {
  return act(button, () => {
    const before = $('#orders').children.length;
    latency.start((document) => document.orders?.length > before);
    return post('/v1/orders', { petId, quantity: 1 });
  });
}

// changeDirectly changes a stock as another program would: the URL leads past the
// rules, so Caddy doesn't know which document has changed.
function changeDirectly(button) {
  return act(button, () => {
    const pet = [...pets.values()][0];
    const stock = pet.stock % 10 + 1;
    latency.start((document) => document.pets?.find(({ id }) => id === pet.id).stock === stock);
    return post(`/direct/v1/inventory/${pet.id}`, { stock }, 'PATCH');
  });
}

function orderSurprise() {
  const choice = inStock();
  placeOrder(choice[Math.floor(Math.random() * choice.length)].id, $('#surprise'));
}

// ---------------------------------------------------------------- login

let user = null;

// The windows of a browser share the cookie, so they notify each other of changes.
const otherWindows = new BroadcastChannel('petstore-user');

async function logIn(name) {
  await post('/v1/login', { user: name });
  setUser(name);
  otherWindows.postMessage(name);
}

async function logOut() {
  await post('/v1/logout');
  setUser(null);
  otherWindows.postMessage(null);
}

// checkUser asks the backend for the cookie's user. A failing backend does not log
// the user out.
async function checkUser() {
  const response = await fetch('/v1/me').catch(() => null);
  if (response?.ok) setUser((await response.json()).user);
  if (response?.status === 401) forgetUser();
}

// forgetUser handles a login that the backend no longer accepts.
function forgetUser() {
  if (user) toast('Your login has ended: log in again.', 'failure');
  setUser(null);
}

// setUser removes the earlier user's data, and opens the private streams if there
// is a user.
function setUser(name) {
  if (name === user) return;
  user = name;
  showUser();
  forgetPrivate();
  for (const stream of streams.filter((stream) => stream.isPrivate)) {
    if (user) stream.open();
    else stream.close();
  }
}

function showUser() {
  document.body.classList.toggle('logged-in', user !== null);
  for (const button of $$('.users [data-login]')) {
    button.setAttribute('aria-pressed', button.dataset.login === user);
  }
  $('#logout').disabled = user === null;
  for (const element of $$('.whose')) element.textContent = user ? ` · ${user}` : '';
  showAvailability();
}

function forgetPrivate() {
  for (const list of ['orders', 'notifications']) {
    $(`#${list}`).replaceChildren();
    $(`#${list}-empty`).hidden = user === null;
  }
  clearRecommendations();
  $('#orders-empty').textContent = 'Waiting for the first document…';
}

// ---------------------------------------------------------------- score

// score compares the backend's requests with the received events, and with the
// requests that polling viewers would make.
const score = {
  last: null,
  polls: 0,
  extra: [],
  extraEvents: 0,
  pending: null,

  // update asks for the counts, unless it is already waiting for them: an answer
  // that overtakes an earlier one would look like a restarted backend.
  update() {
    this.pending ??= this.ask().finally(() => { this.pending = null; });
    return this.pending;
  },

  async ask() {
    if (document.hidden) return;
    const response = await fetch('/v1/requests', { signal: AbortSignal.timeout(countMillis) }).catch(() => null);
    if (!response?.ok) return;
    const counts = await response.json();
    showProtocol();
    for (const stream of streams) this.countRequests(stream, counts[`GET ${stream.path}`] ?? 0);
    this.last = counts;
    this.show();
  },

  // countRequests adds the requests since the last count. A restarted backend counts
  // from zero.
  countRequests(stream, count) {
    if (!this.last) return;
    const before = this.last[`GET ${stream.path}`] ?? 0;
    const more = count < before ? count : count - before;
    stream.requests += more;
    this.polls += more * (stream.isPrivate ? 1 : this.viewers());
  },

  show() {
    const sum = (field) => streams.reduce((total, stream) => total + stream[field], 0);
    for (const stream of streams) {
      $('[data-count="requests"]', stream.card).textContent = stream.requests;
      $('[data-count="events"]', stream.card).textContent = stream.received;
    }
    $('#total-requests').textContent = sum('requests');
    $('#total-polls').textContent = this.polls;
    $('#total-events').textContent = sum('received') + this.extraEvents;
  },

  viewers() {
    return 1 + this.extra.length;
  },

  // addViewers first counts the requests for the present viewers.
  async addViewers(n) {
    await this.update();
    for (let i = 0; i < n; i++) {
      const viewer = new EventSource('/v1/inventory');
      viewer.onmessage = () => { this.extraEvents++; };
      this.extra.push(viewer);
    }
    this.showViewers();
  },

  async removeViewers() {
    await this.update();
    this.extra.splice(0).forEach((viewer) => viewer.close());
    this.showViewers();
  },

  showViewers() {
    $('#viewers').textContent = this.viewers();
    $('#fewer-viewers').hidden = this.extra.length === 0;
    $('#more-viewers').hidden = this.extra.length >= maxExtraViewers;
  },
};

// One HTTP/2 connection carries a hundred streams in most servers' settings.
const maxExtraViewers = 50;

const protocolNames = { 'http/1.1': 'HTTP/1.1', h2: 'HTTP/2', h3: 'HTTP/3' };

// showProtocol reads the protocol of the newest fetch: an EventSource has no entry
// before it ends, and the page itself may have loaded before HTTP/3 was available.
function showProtocol() {
  const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
  const protocol = entries.findLast((entry) => entry.nextHopProtocol)?.nextHopProtocol;
  performance.clearResourceTimings();
  if (!protocol) return;
  const isOld = protocol === 'http/1.1';
  $('#protocol').textContent = protocolNames[protocol] ?? protocol;
  $('#protocol').classList.toggle('old', isOld);
  $('#h1-notice').hidden = !isOld;
  $('#more-viewers').disabled = isOld;
  $('#viewers-note').textContent = isOld
    ? 'HTTP/1.1 allows no more connections'
    : 'each has its own stream';
}

// ---------------------------------------------------------------- start

const orderEvents = ['payment_processing', 'payment_confirmed', 'preparing_shipment', 'shipped', 'cancelled']
  .map((status) => `order.${status}`);

const streams = [
  new Stream('inventory', { onData: showInventory }),
  new Stream('orders', { isPrivate: true, onData: showOrders }),
  new Stream('recommendations', {
    isPrivate: true,
    events: ['recommendation'],
    onData: addRecommendation,
    onReset: clearRecommendations,
    onEnd: () => showThinking(false),
  }),
  new Stream('notifications', {
    isPrivate: true,
    events: orderEvents,
    onData: showNotification,
    onReset: () => addNews('Some notifications may be missing here.', 'reset'),
  }),
];

function renderFilter(stream) {
  const label = document.createElement('label');
  const box = document.createElement('input');
  box.type = 'checkbox';
  box.checked = true;
  box.addEventListener('change', () => timeline.filter(stream.name, box.checked));
  label.dataset.stream = stream.name;
  label.append(box, stream.name);
  return label;
}

// The later clicks of a double click count only where the first one was: the first may
// have moved something else under the pointer.
let firstClicked;
addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (event.detail <= 1) firstClicked = button;
  else if (button !== firstClicked) event.stopPropagation();
}, { capture: true });

function start() {
  $('#streams').append(...streams.map((stream) => stream.render()));
  $('#filters').append(...streams.map(renderFilter));
  $('#https-link').href = `https://${location.hostname}:8443/`;
  for (const hint of $$('.login-hint')) hint.append(stamp('login'));

  for (const button of $$('[data-login]')) {
    button.addEventListener('click', () => act(button, () => logIn(button.dataset.login)));
  }
  $('#logout').addEventListener('click', (event) => act(event.target, logOut));
  $('#surprise').addEventListener('click', orderSurprise);
  $('#recommend').addEventListener('click', recommendAgain);
  $('#direct').addEventListener('click', (event) => changeDirectly(event.target));
  $('#freeze').addEventListener('click', (event) => act(event.target, () => post('/v1/freeze', { seconds: 20 })));
  $('#pause').addEventListener('click', () => timeline.pause(!timeline.held));
  $('#clear').addEventListener('click', () => timeline.clear());
  $('#more-viewers').addEventListener('click', (event) => act(event.target, () => score.addViewers(10)));
  $('#fewer-viewers').addEventListener('click', (event) => act(event.target, () => score.removeViewers()));
  otherWindows.addEventListener('message', (event) => setUser(event.data));

  streams[0].open();
  checkUser();
  score.update();
  setInterval(() => score.update(), countMillis);
}

start();
