// A sender that signs its webhooks as Standard Webhooks says.
import { createHmac } from 'node:crypto';

export class Sender {
  constructor(site) {
    this.url = `${site.url}/hooks/petstore`;
    this.secret = site.secret;
  }

  // send repeats a delivery with the same id until it is accepted, as senders do.
  async send(id, userId, content) {
    const body = JSON.stringify({ type: 'order.test', timestamp: new Date().toISOString(), data: { userId, ...content } });
    for (;;) {
      const response = await fetch(this.url, { method: 'POST', headers: this.headers(id, body), body }).catch(() => null);
      await response?.arrayBuffer();
      if (response?.ok) return;
      if (response && response.status < 500) throw new Error(`the webhook got ${response.status}`);
    }
  }

  headers(id, body) {
    const timestamp = String(Math.floor(Date.now() / 1000));
    const signature = createHmac('sha256', this.secret).update(`${id}.${timestamp}.${body}`).digest('base64');
    return {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': `v1,${signature}`,
    };
  }
}
