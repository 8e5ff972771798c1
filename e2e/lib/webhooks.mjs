// A sender of webhooks that are signed per Standard Webhooks.
import { createHmac } from 'node:crypto';

export class Sender {
  constructor(site) {
    this.url = `${site.url}/hooks/petstore`;
    this.secret = site.secret;
  }

  // send delivers until it is taken, with the same id, as senders do.
  async send(id, userId, content) {
    const body = JSON.stringify({ type: 'order.test', timestamp: new Date().toISOString(), data: { userId, ...content } });
    for (;;) {
      const response = await fetch(this.url, { method: 'POST', headers: this.headers(id, body), body }).catch(() => null);
      await response?.arrayBuffer();
      if (response?.ok) return;
      if (response && response.status < 500) throw new Error(`the webhook was answered with ${response.status}`);
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
