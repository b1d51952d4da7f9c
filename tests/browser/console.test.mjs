// The console in a real browser: every screen at the widths of a phone, a tablet and a desk, light and dark, for axe and
// under its own security policy; with the keyboard only, without script, below a prefix, with hostile names, and at the
// end of a session.
//
// CHROMIUM names the browser, EXAMGATE_BINARY the program, where they are not in the usual place.

import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { beyond, enter, go, signIn, tabTo, unfold, violations, visit } from './console-page.mjs';
import { fill, PLANTED, startWorld, until } from './console-world.mjs';
import { launch } from './page.mjs';
import { newKey, startGateway } from './program.mjs';
import { startProxy } from './proxy.mjs';

const WIDTHS = [400, 900, 1440];
const SCHEMES = ['light', 'dark'];
const MOST_BYTES = 150_000;

const pictures = mkdtempSync(join(tmpdir(), 'examgate-console-'));
const ends = [];
let browser;
let world;
let made;
let unused;

before(async () => {
  [browser, world] = await Promise.all([launch(), startWorld()]);
  ends.push(() => browser.close(), world.stop);
  // Its minute passes while the other tests run.
  unused = await leaveUnused();
  made = await fill(world);
});

/** Signs in where a session ends after the shortest time without use that can be configured, a minute; uses it no more. */
async function leaveUnused() {
  const { key, line } = newKey();
  const gateway = await startGateway({ keyLine: line, connection: '[console]\nidle = "1m"' });
  ends.push(gateway.stop);
  return { key, address: gateway.address, ...(await enter(browser, gateway.address, key)) };
}

after(async () => {
  for (const end of ends.reverse()) await end();
  console.log(`pictures of the console: ${pictures}`);
});

/** Every screen: its name and its address below `console/`. */
const screens = () => ({
  attention: '',
  people: 'people',
  person: `people/${made.jane}`,
  operations: 'operations',
  operation: `operations/${made.operation}`,
  connections: 'connections',
  connection: 'connections/startexam-main',
  results: 'results',
  result: `results/${made.result}`,
  'results-assessments': 'results/assessments',
  'results-summary': 'results/summary?assessment=safety-at-work',
  webhooks: 'webhooks',
  webhook: `webhooks/${made.webhook}`,
  'webhook-new': 'webhooks/new',
  delivery: `webhooks/${made.webhook}/deliveries/${made.delivery}`,
  reports: 'reports',
  report: `reports/${made.parked}`,
  exchanges: 'exchanges',
  exchange: `exchanges/${made.exchange}`,
  audit: 'audit',
  import: 'import',
});

describe('every screen', () => {
  for (const scheme of SCHEMES) {
    for (const width of WIDTHS) {
      test(`fits ${width} pixels in ${scheme} colours, and axe finds nothing`, async () => {
        const options = { viewport: { width, height: 900 }, colorScheme: scheme };
        const { page, faults, close } = await enter(browser, world.address, world.keys.acme, options);
        const found = [];
        for (const [name, path] of Object.entries(screens())) {
          await go(page, world.address, path);
          await page.screenshot({ path: join(pictures, `${name}-${width}-${scheme}.png`), fullPage: true });
          found.push(...(await beyond(page)).map((fault) => `${name}: ${fault}`));
          await unfold(page, true);
          found.push(...(await beyond(page)).map((fault) => `${name}, unfolded: ${fault}`));
          found.push(...(await violations(page)).map((fault) => `${name}: ${fault}`));
        }
        assert.deepEqual(found, []);
        assert.deepEqual(faults, []);
        await close();
      });
    }
  }

  test('names itself or ids in its title, and nobody', async () => {
    const { page, close } = await enter(browser, world.address, world.keys.acme);
    const titles = new Set();
    for (const path of Object.values(screens())) {
      await go(page, world.address, path);
      const title = await page.title();
      assert.match(title, /· examgate$/);
      assert.doesNotMatch(title, /Jane|Doe|emp-1001|@/);
      titles.add(title);
    }
    assert.equal(titles.size, Object.keys(screens()).length);
    await close();
  });
});

describe('signing in', () => {
  test('loads few bytes, from the gateway only', async () => {
    const { page, faults, requests, close } = await visit(browser);
    let bytes = 0;
    const sizes = [];
    page.on('requestfinished', (request) => {
      const size = async () => {
        const { responseBodySize, responseHeadersSize } = await request.sizes();
        bytes += responseBodySize + responseHeadersSize;
      };
      sizes.push(size());
    });
    await signIn(page, world.address, world.keys.acme);
    await page.waitForLoadState('networkidle');
    await Promise.all(sizes);
    assert.ok(bytes > 1_000 && bytes <= MOST_BYTES, `${bytes} bytes`);
    assert.deepEqual(requests.filter((url) => !url.startsWith(`${world.address}/console`) && !url.startsWith('data:')), []);
    assert.deepEqual(faults, []);
    await close();
  });

  test('with a wrong key says so, and keeps nothing', async () => {
    const { page, context, close } = await visit(browser);
    await page.goto(`${world.address}/console`);
    await page.getByLabel('API key').fill('not-a-key-of-anybody');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.locator('.error, .problem, .notice').first().waitFor();
    assert.equal(await page.getByLabel('API key').inputValue(), '');
    assert.deepEqual((await context.cookies()).filter(({ name }) => name === '__Host-examgate'), []);
    await close();
  });

  test('again after the session has ended leads back to where it ended', async () => {
    const { page, context, close } = await enter(browser, world.address, world.keys.acme);
    const copied = (await context.cookies()).filter(({ name }) => name === '__Host-examgate');
    assert.equal(copied.length, 1);
    assert.ok(copied[0].httpOnly && copied[0].secure && copied[0].sameSite === 'Strict');
    assert.ok(!copied[0].value.includes(world.keys.acme));
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('API key').waitFor();
    assert.deepEqual((await context.cookies()).filter(({ name }) => name === '__Host-examgate'), []);

    await context.addCookies(copied);
    await page.goto(`${world.address}/console/people/${made.jane}`);
    await page.getByText('session has ended').waitFor();
    await page.getByLabel('API key').fill(world.keys.acme);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { level: 1, name: 'Jane Doe' }).waitFor();
    assert.ok(page.url().startsWith(`${world.address}/console/people/${made.jane}`), page.url());
    await close();
  });
});

describe('a link on another site', () => {
  test('opens its page in the session there is, and leaves the forms that are open as they are', async () => {
    const { page, context, faults, close } = await enter(browser, world.address, world.keys.acme);
    await go(page, world.address, `people/${made.jane}`);
    const mail = `<a href="${world.address}/console/people/${made.jane}">Jane</a>`;
    await context.route('http://mail.example/', (route) => route.fulfill({ contentType: 'text/html', body: mail }));
    const other = await context.newPage();
    await other.goto('http://mail.example/');
    await other.getByRole('link', { name: 'Jane' }).click();
    await other.getByRole('heading', { level: 1, name: 'Jane Doe' }).waitFor();
    assert.equal(new URL(other.url()).pathname, `/console/people/${made.jane}`);

    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('API key').waitFor();
    assert.deepEqual(faults, []);
    await close();
  });

  test('leads to the page to sign in if there is no session', async () => {
    const { page, context, close } = await visit(browser);
    const mail = `<a href="${world.address}/console/people/${made.jane}">Jane</a>`;
    await context.route('http://mail.example/', (route) => route.fulfill({ contentType: 'text/html', body: mail }));
    await page.goto('http://mail.example/');
    await page.getByRole('link', { name: 'Jane' }).click();
    await page.getByLabel('API key').fill(world.keys.acme);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { level: 1, name: 'Jane Doe' }).waitFor();
    await close();
  });
});

describe('a form', () => {
  test('says where it is from, so that it also counts in a browser without Fetch Metadata', async () => {
    const { page, close } = await enter(browser, world.address, world.keys.acme);
    const sent = page.waitForRequest((request) => request.method() === 'POST');
    await page.getByRole('button', { name: 'Sign out' }).click();
    assert.equal((await (await sent).allHeaders()).origin, world.address);
    await page.getByLabel('API key').waitFor();
    await close();
  });
});

describe('a tenant', () => {
  test('sees nothing of another', async () => {
    const { page, close } = await enter(browser, world.address, world.keys.globex);
    const theirs = [made.jane, made.planted, made.unknown, made.operation, made.parked, made.webhook, 'Jane', 'emp-1001'];
    for (const path of ['', 'people', 'operations', 'results', 'webhooks', 'reports', 'exchanges', 'audit']) {
      await go(page, world.address, path);
      const html = await page.content();
      for (const word of theirs) assert.ok(!html.includes(word), `${word} on ${path}`);
    }
    for (const path of [`people/${made.jane}`, `operations/${made.operation}`, `webhooks/${made.webhook}`, `reports/${made.parked}`]) {
      await go(page, world.address, path, 404);
      assert.ok(!(await page.content()).includes('Jane'), path);
    }
    await close();
  });

  test('a client without a scope lacks the entry of the menu, and is told which scope opens the screen', async () => {
    const { page, close } = await enter(browser, world.address, world.keys.reader);
    const menu = page.getByRole('navigation', { name: 'Screens' });
    const names = (await menu.getByRole('link').allInnerTexts()).map((text) => text.replace(/\s*\d+\+?$/, ''));
    assert.deepEqual(names, ['Attention', 'People']);
    await go(page, world.address, 'audit', 403);
    await page.getByText('audit:read').first().waitFor();
    await close();
  });
});

describe('a hostile name', () => {
  test('is shown as the text that it is', async () => {
    const { page, faults, close } = await enter(browser, world.address, world.keys.acme);
    for (const path of ['', 'people', `people/${made.planted}`, 'operations', 'exchanges', 'audit']) {
      await go(page, world.address, path);
      assert.notEqual(await page.title(), 'planted', path);
      assert.equal(await page.locator('main script, main img').count(), 0, path);
    }
    await go(page, world.address, `people/${made.planted}`);
    await page.getByText(PLANTED).first().waitFor();
    assert.deepEqual(faults, []);
    await close();
  });
});

describe('the script', () => {
  test('shows times in the zone of the reader, and keeps UTC in the title', async () => {
    const options = { timezoneId: 'Asia/Kolkata' };
    const { page, faults, close } = await enter(browser, world.address, world.keys.acme, options);
    await go(page, world.address, `people/${made.jane}`);
    const [time] = await page.locator('main time').evaluateAll((all) =>
      all.map(({ dateTime, textContent, title }) => ({ dateTime, textContent, title })),
    );
    const there = new Date(new Date(time.dateTime).getTime() + 5.5 * 3_600_000).toISOString();
    assert.ok(time.textContent.startsWith(there.slice(0, 16).replace('T', ' ')), JSON.stringify(time));
    assert.equal(time.title, `${time.dateTime.slice(0, 19).replace('T', ' ')} UTC`);
    await page.getByText('Times are in Asia').waitFor();
    assert.deepEqual(faults, []);
    await close();
  });

  test('copies an id on a click', async () => {
    const options = { permissions: ['clipboard-read', 'clipboard-write'] };
    const { page, close } = await enter(browser, world.address, world.keys.acme, options);
    await go(page, world.address, `people/${made.jane}`);
    await page.getByRole('button', { name: `Copy ${made.jane}` }).first().click();
    await page.getByRole('status').filter({ hasText: 'Copied.' }).waitFor({ state: 'attached' });
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), made.jane);
    await close();
  });

  test('is not needed: a booking is found and its question opens without it', async () => {
    const { page, close } = await enter(browser, world.address, world.keys.acme, { javaScriptEnabled: false });
    for (const path of Object.values(screens())) await go(page, world.address, path);
    await go(page, world.address, `people/${made.jane}`);
    await page.getByText(/^\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)? UTC$/).first().waitFor();
    await page.locator('summary', { hasText: 'Settle' }).first().click();
    await page.getByRole('radio').first().waitFor();
    await close();
  });
});

describe('the keyboard', () => {
  test('signs in, skips the menu, finds a person and opens the question about the booking', async () => {
    const { page, faults, close } = await visit(browser);
    await page.goto(`${world.address}/console`);
    assert.equal(await page.evaluate(() => document.activeElement.labels?.[0]?.textContent.trim()), 'API key');
    await page.keyboard.type(world.keys.acme);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'Attention' }).waitFor();

    assert.match(await tabTo(page, /./), /^Skip to/);
    assert.ok(await page.locator('.skip').evaluate((one) => one.getBoundingClientRect().top >= 0), 'the link is in sight');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main');

    await go(page, world.address, '');
    await tabTo(page, /^People/);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'People' }).waitFor();
    await tabTo(page, /^Value/);
    await page.keyboard.type('emp-1001');
    await page.keyboard.press('Enter');
    await page.getByText('Jane Doe').first().waitFor();
    if (!page.url().includes(made.jane)) {
      await tabTo(page, /Jane Doe/);
      await page.keyboard.press('Enter');
    }
    await page.getByRole('heading', { level: 1, name: 'Jane Doe' }).waitFor();
    assert.ok(!page.url().includes('emp-1001'), 'nothing personal in the address');

    await tabTo(page, /^Settle/);
    await page.keyboard.press('Enter');
    await page.getByRole('radio').first().waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('radio').first().waitFor({ state: 'hidden' });
    assert.match(await page.evaluate(() => document.activeElement.textContent), /Settle/);
    assert.deepEqual(faults, []);
    await close();
  });
});

describe('behind a proxy that strips a prefix', () => {
  test('every link and form stays below it', async () => {
    const proxy = await startProxy('/prefix/x');
    ends.push(proxy.stop);
    proxy.forwardTo(world.address);
    const root = `${proxy.address}/prefix/x`;
    const { page, faults, requests, close } = await enter(browser, root, world.keys.acme);
    for (const path of ['', 'people', `people/${made.jane}`, `operations/${made.operation}`]) {
      await go(page, root, path);
      const addresses = await page.evaluate(() => [
        ...[...document.links].map(({ href }) => href),
        ...[...document.forms].map(({ action }) => action),
      ]);
      assert.deepEqual(addresses.filter((address) => !address.startsWith(`${root}/console`)), [], path);
    }
    await page.getByRole('navigation', { name: 'Screens' }).getByRole('link', { name: 'Audit' }).click();
    await page.getByRole('heading', { level: 1, name: 'Audit' }).waitFor();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('API key').waitFor();
    assert.deepEqual(requests.filter((url) => !url.startsWith(`${root}/console`) && !url.startsWith('data:')), []);
    assert.deepEqual(faults, []);
    await close();
  });
});

describe('an operation', () => {
  test('shows its progress while it runs, and its end, without being asked', async () => {
    const call = world.api(world.keys.acme);
    // The vendor asks for patience until the fault is taken away.
    await world.vendors.faults('startexam', [{ name: 'rate_limited', operation: 'employees' }]);
    const items = [{ externalId: 'emp-3001', email: 'emp-3001@example.com', name: { givenName: 'Ada', familyName: 'Lo' } }];
    const { body } = await call('POST', '/candidates/bulk', { connection: 'startexam-main', items }, { Prefer: 'respond-async' });
    const { page, faults, close } = await enter(browser, world.address, world.keys.acme);
    await go(page, world.address, `operations/${body.id}`);
    await page.locator('[data-live]').waitFor();
    await world.vendors.faults('startexam', []);
    await page.locator('h1 .badge', { hasText: 'completed' }).waitFor();
    assert.equal(await page.locator('[data-live]').count(), 0);
    await until(async () => (await call('GET', `/operations/${body.id}`)).body.state === 'completed');
    assert.deepEqual(faults, []);
    await close();
  });
});

describe('a session that is not used', () => {
  test('ends by itself, and signing in again leads on', { timeout: 180_000 }, async () => {
    const { key, address, page, context, faults, close } = unused;
    const sessions = async () => (await context.cookies()).filter(({ name }) => name === '__Host-examgate');
    const [{ name, value }] = await sessions();
    // Asks with a copy of the cookie: what the browser asks for would count as use.
    const ask = () => fetch(`${address}/console/people`, { headers: { cookie: `${name}=${value}` }, redirect: 'manual' });
    while ((await ask()).status === 200) await new Promise((resolve) => setTimeout(resolve, 200));
    await page.getByRole('navigation', { name: 'Screens' }).getByRole('link', { name: 'People' }).click();
    await page.getByText('session has ended').waitFor();
    assert.deepEqual(await sessions(), []);
    await page.getByLabel('API key').fill(key);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { level: 1, name: 'People' }).waitFor();
    assert.deepEqual(faults, []);
    await close();
  });
});
