// The senders' own libraries sign these deliveries.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sign as signForGitHub } from '@octokit/webhooks-methods';
import { CloudEvent, HTTP } from 'cloudevents';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import { Stripe } from 'stripe';
import twilio from 'twilio/lib/webhooks/webhooks.js';
import { Caddy, freePorts } from './lib/site.mjs';
import { Subscriber } from './lib/subscriber.mjs';

const secrets = {
  github: 'a secret of GitHub',
  stripe: 'whsec_a_secret_of_stripe',
  standard: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
  twilio: '12345678901234567890123456789012',
  cloudevents: 'a token of CloudEvents',
};
const stripe = new Stripe('sk_test_unused');
const seconds = (time) => Math.floor(time.getTime() / 1000);

// A sender makes a delivery with a number in it: the request, its signature, and
// the event that a subscriber receives.
const senders = {
  github: {
    sign: async ({ n, secret = secrets.github }) => {
      const body = JSON.stringify({ action: 'opened', number: n, repository: { full_name: 'ann/shop' } });
      return {
        body,
        headers: {
          'content-type': 'application/json', 'x-github-event': 'issues', 'x-github-delivery': `github-${n}`,
          'x-hub-signature-256': await signForGitHub(secret, body),
        },
      };
    },
    event: 'issues', id: (n) => `github-${n}`, number: (data) => data.number,
  },
  stripe: {
    sign: async ({ n, secret = secrets.stripe, time = new Date() }) => {
      const body = JSON.stringify({ id: `evt_${n}`, object: 'event', type: 'invoice.paid', data: { object: { n } } }, null, 2);
      const header = stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp: seconds(time) });
      return { body, headers: { 'content-type': 'application/json; charset=utf-8', 'stripe-signature': header } };
    },
    event: 'invoice.paid', id: (n) => `evt_${n}`, number: (data) => data.data.object.n, timed: true,
  },
  'standard-webhooks': {
    sign: async ({ n, secret = secrets.standard, time = new Date(), prefix = 'webhook' }) => {
      const body = JSON.stringify({ type: 'user.created', timestamp: time.toISOString(), data: { n } });
      return {
        body,
        headers: {
          'content-type': 'application/json', [`${prefix}-id`]: `${prefix}_${n}`, [`${prefix}-timestamp`]: String(seconds(time)),
          [`${prefix}-signature`]: new StandardWebhook(secret).sign(`${prefix}_${n}`, time, body),
        },
      };
    },
    wrong: 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD',
    event: 'user.created', id: (n) => `webhook_${n}`, number: (data) => data.data.n, timed: true,
  },
  svix: {
    path: 'standard-webhooks',
    sign: (delivery) => senders['standard-webhooks'].sign({ ...delivery, prefix: 'svix' }),
    wrong: 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD',
    event: 'user.created', id: (n) => `svix_${n}`, number: (data) => data.data.n, timed: true,
  },
  twilio: {
    sign: async ({ n, secret = secrets.twilio, url }) => {
      const params = { MessageSid: `SM${n}`, From: '+14158675309', Body: 'Zeit für Tee & Gebäck?', N: String(n) };
      const headers = { 'content-type': 'application/x-www-form-urlencoded', 'i-twilio-idempotency-token': `twilio-${n}` };
      return { body: new URLSearchParams(params).toString(), headers: { ...headers, 'x-twilio-signature': twilio.getExpectedTwilioSignature(secret, url, params) } };
    },
    event: 'message', id: (n) => `twilio-${n}`, number: (data) => Number(data.N),
  },
  // A shared key of a webhooks rule signs instead of the auth token.
  'twilio with a shared key': {
    path: 'twilio',
    sign: async ({ n, secret = secrets.twilio, url }) => {
      const params = { MessageSid: `SM${n}`, Body: 'für Ann', N: String(n) };
      const settings = 'key=webhooks_sharedkey_01,algorithm=HMAC_SHA256';
      const signature = twilio.getExpectedTwilioSignature(secret, url, params, twilio.getSignatureAlgorithm(settings));
      const headers = { 'content-type': 'application/x-www-form-urlencoded', 'i-twilio-idempotency-token': `shared-${n}` };
      return { body: new URLSearchParams(params).toString(), headers: { ...headers, 'x-twilio-signature': signature, 'x-twilio-webhooks-signature-settings': settings } };
    },
    event: 'message', id: (n) => `shared-${n}`, number: (data) => Number(data.N),
  },
  'twilio with JSON': {
    path: 'twilio',
    query: (body) => `?bodySHA256=${twilio.getExpectedBodyHash(body)}`,
    sign: async ({ n, secret = secrets.twilio, url }) => {
      const body = JSON.stringify({ N: n, text: 'Zeit für Tee?' });
      const signature = twilio.getExpectedTwilioSignature(secret, url + senders['twilio with JSON'].query(body), {});
      const headers = { 'content-type': 'application/json', 'i-twilio-idempotency-token': `json-${n}`, 'x-twilio-signature': signature };
      return { body, headers, query: senders['twilio with JSON'].query(body) };
    },
    event: 'message', id: (n) => `json-${n}`, number: (data) => data.N,
  },
};
for (const mode of ['binary', 'structured']) {
  senders[`cloudevents, ${mode}`] = {
    path: 'cloudevents',
    sign: async ({ n, secret = secrets.cloudevents }) => {
      const event = new CloudEvent({ type: 'com.example.paid', source: '/shop', id: `${mode}-${n}`, data: { n, text: 'für Ann' } });
      const message = HTTP[mode](event);
      const body = typeof message.body === 'string' ? message.body : JSON.stringify(message.body);
      return { body, headers: { ...message.headers, authorization: `Bearer ${secret}` } };
    },
    event: 'com.example.paid', id: (n) => `${mode}-${n}`, number: (data) => data.n, unsigned: true,
  };
}

describe('deliveries signed by the senders\' own libraries', () => {
  let caddy, url;

  before(async () => {
    const [port] = await freePorts(1);
    url = `http://localhost:${port}`;
    caddy = await Caddy.start(`
{
	admin off
}
${url} {
	bind 127.0.0.1
	sse /hooks/github {
		webhook {
			verify github {env.GITHUB_SECRET}
		}
	}
	sse /hooks/stripe {
		webhook {
			verify stripe {env.STRIPE_SECRET}
		}
	}
	sse /hooks/standard-webhooks {
		webhook {
			verify standard-webhooks {env.STANDARD_SECRET}
		}
	}
	handle_path /public/* {
		sse /hooks/twilio {
			webhook {
				verify twilio {env.TWILIO_SECRET}
				select .
			}
		}
	}
	sse /hooks/cloudevents {
		webhook {
			verify cloudevents {env.CLOUDEVENTS_SECRET}
			id     {json.id}
			select .data
		}
	}
	sse /events {
		topic {query.topic}
		allow **
	}
}`, { env: Object.fromEntries(Object.entries(secrets).map(([name, secret]) => [`${name.toUpperCase()}_SECRET`, secret])), url: `${url}/up` });
  });
  after(() => caddy?.stop());

  for (const [name, sender] of Object.entries(senders)) {
    test(`${name}: signed deliveries are published, others refused`, async (t) => {
      const path = sender.path ?? name;
      const target = `${url}${path === 'twilio' ? '/public' : ''}/hooks/${path}`;
      const subscriber = new Subscriber(`${url}/events?topic=hooks/${path}`, { events: sender.event === 'message' ? [] : [sender.event] });
      t.after(() => subscriber.close());
      await subscriber.open();

      const post = async (delivery, change = (body) => body) => {
        const { body, headers, query = '' } = await sender.sign({ ...delivery, url: target });
        const response = await fetch(target + query, { method: 'POST', headers, body: change(body) });
        await response.arrayBuffer();
        return response.status;
      };
      const minutes = (count) => new Date(Date.now() + count * 60_000);

      assert.equal(await post({ n: 1, secret: sender.wrong ?? 'another secret' }), 401, 'a wrong secret');
      if (!sender.unsigned) assert.equal(await post({ n: 2 }, (body) => body.replace(/2(?=\D*$)/, '3')), 401, 'a byte changed');
      if (sender.timed) {
        assert.equal(await post({ n: 4, time: minutes(-6) }), 401, 'an old timestamp');
        assert.equal(await post({ n: 5, time: minutes(6) }), 401, 'a future timestamp');
      }
      for (const n of [6, 6, 7]) assert.ok([202, 204].includes(await post({ n })), 'accepted, also a second time');

      await subscriber.event('the last event', ({ data }) => sender.number(data) === 7);
      assert.deepEqual(
        subscriber.received.map(({ type, id, data }) => [type, id, sender.number(data)]),
        [6, 7].map((n) => [sender.event, sender.id(n), n]),
      );
    });
  }
});
