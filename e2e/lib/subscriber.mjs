// A client library as applications use it, with a record of its events.
import { EventSource } from 'eventsource';

export class Subscriber {
  // events lists the names of events to listen for. Unnamed events always count.
  constructor(url, { headers = {}, events = [] } = {}) {
    this.received = [];
    this.opened = 0;
    this.waiting = new Set();
    this.source = new EventSource(url, {
      fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } }),
    });
    this.source.onopen = () => { this.opened++; this.wake(); };
    for (const type of ['message', ...events]) {
      this.source.addEventListener(type, ({ data, lastEventId }) => {
        this.received.push({ type, id: lastEventId, data: JSON.parse(data), at: performance.now() });
        this.wake();
      });
    }
  }

  wake() { for (const check of this.waiting) check(); }

  // until waits for a condition, which it checks after each event.
  until(what, condition, millis = 20_000) {
    return new Promise((resolve, reject) => {
      const finish = (end, value) => {
        clearTimeout(timer);
        this.waiting.delete(check);
        end(value);
      };
      const check = () => {
        const value = condition(this);
        if (value) finish(resolve, value);
      };
      const timer = setTimeout(() => {
        const last = JSON.stringify(this.received.slice(-3));
        finish(reject, new Error(`not within ${millis} ms: ${what}; received ${this.received.length} events, the last ${last}`));
      }, millis);
      this.waiting.add(check);
      check();
    });
  }

  open() { return this.until('the stream opens', () => this.opened > 0); }

  // event waits for the first event that meets the condition.
  event(what, condition) { return this.until(what, () => this.received.find(condition)); }

  close() { this.source.close(); }
}
