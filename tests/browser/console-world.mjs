// What the tests of the console look at: the vendors' simulators, a gateway with two tenants, and one of each thing that
// needs a person. Everything is made through the API and the simulators, as clients and vendors make it.

import assert from 'node:assert/strict';

import { newKey, startGatewayWith, startSandboxWithAll } from './program.mjs';

const EVERY_SCOPE = [
  'candidates:read', 'candidates:write', 'assignments:read', 'assignments:write', 'programs:write', 'operations:read',
  'operations:write', 'catalogue:read', 'connections:check', 'exchanges:read', 'audit:read', 'results:read', 'reports:read',
  'reports:write', 'events:read', 'webhooks:read', 'webhooks:write',
];

/** StartExam's id of a test. */
const SAFETY = '3c9d2f7e-58b1-4f6a-8d0c-2b7e91a4c6d5';

/** What a page must show as text and never run. */
export const PLANTED = '<script>document.title="planted"</script><img src=x onerror=document.title="planted">';

/** Starts simulators and gateway. `server` and `more` are lines of the configuration. */
export async function startWorld({ server = '', more = '' } = {}) {
  const vendors = await startSandboxWithAll();
  const keys = { acme: newKey(), globex: newKey(), reader: newKey() };
  const gateway = await startGatewayWith(configuration(vendors, keys, server, more));
  const end = async () => {
    await gateway.stop();
    await vendors.stop();
  };
  return {
    address: gateway.address,
    vendors,
    keys: { acme: keys.acme.key, globex: keys.globex.key, reader: keys.reader.key },
    api: (key) => api(gateway.address, key),
    stop: end,
  };
}

function configuration(vendors, keys, server, more) {
  const client = (name, tenant, { line }, scopes) =>
    `[auth.clients.${name}]\ntenant = "${tenant}"\n${line}\nscopes = ${JSON.stringify(scopes)}\nconnections = ["*"]\n` +
    'default_connection = "startexam-main"\n';
  return `[server]
listen = "127.0.0.1:0"
admin_listen = ""
${server}
${client('acme', 'acme', keys.acme, EVERY_SCOPE)}
${client('globex', 'globex', keys.globex, EVERY_SCOPE)}
${client('reader', 'acme', keys.reader, ['candidates:read'])}
[store]
url = "sqlite:{folder}/store.db"
encryption_key = "file:{folder}/store.key"
[console]
sign_in_rate = 600
[delivery]
allow_hosts = ["127.0.0.1"]
allow_private = ["127.0.0.1"]
allow_http = true
schedule = ["0s"]
[webhooks.lms]
tenant = "acme"
url = "${vendors.lms}"
secret = "plain:whsec_ZXhhbWdhdGUtc2FuZGJveC1sbXMtc2VjcmV0LTAwMDE="
[connections.startexam-main]
vendor = "startexam"
base_url = "${vendors.startexam}"
requests_per_second = 0
account_id = 99
secret = "plain:ZXhhbWdhdGUtdGVzdC1zZWNyZXQtMDEyMzQ1Njc4OTA="
center = "mycenter"
profile_id = "d51b5efd-fb21-4cb8-94e2-145014839465"
settle_grace = "0s"
breaker = { failures = 0 }
[connections.startexam-main.results]
mode = "feed"
[connections.thinkexam-main]
vendor = "thinkexam"
base_url = "${vendors.thinkexam}"
requests_per_second = 0
default_group = "CE104"
link_template = "https://exams.example.com/start?token={token}"
[connections.thinkexam-main.results]
mode = "webhook"
keys = ["plain:sandbox-thinkexam-webhook-key"]
path_token = "plain:sandbox-thinkexam-hook-token"
owner = "acme"
[connections.thinkexam-main.signature]
mode = "static"
ak = "plain:sandbox-thinkexam-key"
sgn = "plain:sandbox-static-signature"
ts = "plain:1700000000"
[connections.examtesting-main]
vendor = "examtesting"
base_url = "${vendors.examtesting}"
requests_per_second = 0
institution_id = "1234"
api_key = "plain:sandbox-examtesting-key"
api_pass = "plain:sandbox-examtesting-pass"
[assessments.rust-101]
name = "Rust 101"
connection = "startexam-main"
ref = "fa19e351-36d0-49c0-be92-66d640b17878"
pass_percent = 60.0
[assessments.safety-at-work]
name = "Safety at work"
connection = "startexam-main"
ref = "${SAFETY}"
pass_percent = 60.0
[assessments.aptitude]
name = "Aptitude"
connection = "thinkexam-main"
ref = "2415"
pass_percent = 60.0
${more}`;
}

/** Calls of the API with this key: `call('POST', '/candidates', {…})` returns status and body. */
function api(address, key) {
  return async (method, path, body, headers = {}) => {
    const type = body === undefined ? {} : { 'Content-Type': 'application/json' };
    const options = { method, headers: { Authorization: `Bearer ${key}`, ...type, ...headers }, body: JSON.stringify(body) };
    const response = await fetch(address + path, options);
    const text = await response.text();
    return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
  };
}

/** Makes one of each thing that needs a person, and returns their ids. */
export async function fill({ address, vendors, keys }) {
  const call = api(address, keys.acme);
  const made = async (expected, method, path, body) => {
    const answer = await call(method, path, body);
    assert.equal(answer.status, expected, `${method} ${path}: ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const person = (externalId, givenName, familyName, connection = 'startexam-main') => ({
    connection,
    externalId,
    email: `${externalId}@example.com`,
    name: { givenName, familyName },
  });
  // A webhook that fails: everything that happens from now on is not delivered.
  await vendors.faults('lms', [{ name: 'server_error' }]);
  const jane = await made(201, 'POST', '/candidates', person('emp-1001', 'Jane', 'Doe'));
  const planted = await made(201, 'POST', '/candidates', person('emp-1002', PLANTED, 'Tables'));
  const booked = await made(201, 'POST', '/assignments', { assessment: 'rust-101', candidate: { id: planted.id } });

  // Somebody who has taken a test, with a result.
  const sat = await made(201, 'POST', '/assignments', { assessment: 'safety-at-work', candidate: { id: jane.id } });
  await vendors.session({ employee: 'emp-1001', testId: SAFETY, finished: true, score: 6, maxScore: 8 });
  const { progress } = await made(200, 'POST', `/assignments/${sat.id}/refresh`);

  // An operation whose rows were all applied.
  const names = [['Amara', 'Diallo'], ['Ben', 'Okafor'], ['Chloe', 'Martin'], ['Dmitri', 'Ivanov'], ['Elif', 'Kaya'], ['Finn', 'Berg']];
  const others = names.map(([givenName, familyName], index) => person(`emp-11${index}`, givenName, familyName));
  await made(207, 'POST', '/candidates/bulk', { connection: 'startexam-main', items: others.map(({ connection: _, ...row }) => row) });

  // An unknown booking, which only a person can settle.
  await vendors.faults('startexam', [{ name: 'reset_after_effect', operation: 'employees_participants', times: 1 }]);
  const order = { assessment: 'rust-101', candidate: { id: jane.id }, ifExists: 'fail' };
  const { resource, instance } = await made(504, 'POST', '/assignments', order);
  const unknown = resource.split('/').at(-1);

  // An operation with a row that failed, and would succeed now.
  await vendors.faults('startexam', [{ name: 'bad_request', operation: 'employees' }]);
  const rows = [person('emp-1003', 'Ravi', 'Nair'), person('emp-1004', 'Mia', 'Chen')];
  const items = rows.map(({ connection: _, ...row }, index) => ({ itemId: `row-${index + 1}`, ...row }));
  const bulk = await made(207, 'POST', '/candidates/bulk', { connection: 'startexam-main', items });
  await vendors.faults('startexam', []);

  // A report of somebody that the gateway does not know, and the booking that it belongs to.
  const lee = await made(201, 'POST', '/candidates', person('emp-2001', 'Lee', 'Park', 'thinkexam-main'));
  const taken = await made(201, 'POST', '/assignments', {
    assessment: 'aptitude', connection: 'thinkexam-main', candidate: { id: lee.id },
  });
  await vendors.result(`${address}/receivers/thinkexam-main/sandbox-thinkexam-hook-token`, 'somebody@example.com');
  const parked = await until(async () => (await call('GET', '/reports?state=parked')).body.items[0]);
  const hook = (await call('GET', '/webhooks')).body.items[0];
  const failed = await until(async () => (await call('GET', `/webhooks/${hook.id}/deliveries?state=failed`)).body.items[0]);
  await vendors.faults('lms', []);
  return {
    jane: jane.id, planted: planted.id, booked: booked.id, unknown, operation: bulk.operation, lee: lee.id, taken: taken.id,
    result: progress.result, parked: parked.id, webhook: hook.id,
    delivery: failed.id, exchange: instance.split('/').at(-1),
  };
}

/** Asks again until there is an answer. */
export async function until(ask) {
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
