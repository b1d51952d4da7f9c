// The documentation page in a real browser: it has to work as served, with its own security policy, without any other host,
// below a path, behind a proxy that strips one, and at an address other than the public one.
//
// CHROMIUM names the browser, EXAMGATE_BINARY the program, where they are not in the usual place.

import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { authorise, execute, groups, launch, open, stored } from './page.mjs';
import { newKey, startGateway, startSandbox } from './program.mjs';
import { startProxy } from './proxy.mjs';

const PREFIX = '/prefix/x';
const BASE = '/exam-api';

const pictures = mkdtempSync(join(tmpdir(), 'examgate-page-'));
const { key, line: keyLine } = newKey();
const ends = [];
let browser;
let connection;

before(async () => {
  browser = await launch();
  ends.push(() => browser.close());
  const sandbox = await startSandbox();
  ends.push(sandbox.stop);
  connection = sandbox.connection;
});

after(async () => {
  for (const end of ends.reverse()) await end();
  console.log(`pictures of the page: ${pictures}`);
});

async function gateway(server) {
  const started = await startGateway({ server, connection, keyLine });
  ends.push(started.stop);
  return started.address;
}

async function proxied() {
  const proxy = await startProxy(PREFIX);
  ends.push(proxy.stop);
  proxy.forwardTo(await gateway(''));
  return proxy.address + PREFIX;
}

const PLACES = {
  'at the root': () => gateway(''),
  'below a base path': async () => (await gateway(`base_path = "${BASE}"`)) + BASE,
  'behind a proxy that strips a prefix': proxied,
  'at another address than the public one': () => gateway('public_url = "https://exams.example.com/api"'),
};

for (const [place, started] of Object.entries(PLACES)) {
  describe(place, () => {
    let root;
    let description;
    const picture = (of) => join(pictures, `${place.replaceAll(' ', '-')}-${of}.png`);

    before(async () => {
      root = await started();
      description = await (await fetch(`${root}/openapi.json`)).json();
    });

    for (const path of ['/docs', '/docs/']) {
      test(`${path} shows every operation and asks no other host`, async () => {
        const { page, faults, requests, response, close } = await open(browser, root + path);
        assert.equal(page.url(), `${root}/docs/`);
        await page.screenshot({ path: picture('page'), fullPage: true });
        assert.match(response.headers()['content-security-policy'], /script-src 'self';/);
        assert.deepEqual(await groups(page), operationsPerTag(description));
        assert.deepEqual(foreign(requests, root), []);
        assert.deepEqual(faults, []);
        await close();
      });
    }

    test('a candidate is registered and read from the page', async () => {
      const { page, faults, requests, close } = await open(browser, `${root}/docs/`);
      await authorise(page, key);

      const created = await execute(page, 'createCandidate');
      assert.equal(created.status, 201, JSON.stringify(created.body));
      assert.equal(created.address, `${root}/candidates`);
      await created.picture(picture('answer'));
      const { id } = created.body;
      assert.match(id, /^cand_/);

      const read = await execute(page, 'getCandidate', (block) =>
        block.locator('[data-param-name="id"] input').fill(id),
      );
      assert.equal(read.status, 200, JSON.stringify(read.body));
      assert.equal(read.address, `${root}/candidates/${id}`);
      assert.equal(read.body.id, id);

      assert.ok(!(await stored(page)).includes(key), 'the key is kept nowhere');
      for (const { address } of [created, read]) assert.ok(requests.includes(address), address);
      assert.deepEqual(foreign(requests, root), []);
      assert.deepEqual(faults, []);
      await close();
    });
  });
}

function operationsPerTag({ paths }) {
  const operations = Object.values(paths).flatMap((item) => Object.values(item).filter((part) => part.responses));
  const counts = {};
  for (const tag of operations.flatMap(({ tags }) => tags)) counts[tag] = (counts[tag] ?? 0) + 1;
  return counts;
}

/** Requests that left the place where the page is served. */
function foreign(requests, root) {
  assert.notEqual(requests.length, 0);
  return requests.filter((address) => !address.startsWith('data:') && !address.startsWith(`${root}/`));
}
