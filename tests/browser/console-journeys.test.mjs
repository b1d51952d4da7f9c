// What operators come to the console for, from the screen that says so to the vendor that shows it: an unknown booking is
// settled, failed rows are sent again, a parked report finds its booking, missed events are replayed, a sheet is imported.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { enter, go } from './console-page.mjs';
import { fill, startWorld, until } from './console-world.mjs';
import { launch } from './page.mjs';

const ends = [];
let browser;
let world;
let made;
let call;
let page;
let faults;

before(async () => {
  [browser, world] = await Promise.all([launch(), startWorld()]);
  ends.push(() => browser.close(), world.stop);
  made = await fill(world);
  call = world.api(world.keys.acme);
  ({ page, faults } = await enter(browser, world.address, world.keys.acme));
});

after(async () => {
  for (const end of ends.reverse()) await end();
});

const read = async (path) => (await call('GET', path)).body;
const heading = (name) => page.getByRole('heading', { level: 1, name });
const notice = () => page.locator('.notice.good');

describe('from what needs attention', () => {
  test('an unknown booking is settled', async () => {
    await go(page, world.address, '');
    const entry = page.locator('.rows > li', { has: page.getByTitle(made.unknown) });
    await entry.locator('summary', { hasText: 'Settle' }).click();
    await entry.getByRole('radio', { name: /not applied/ }).check();
    await entry.getByRole('button', { name: 'Settle' }).click();
    await notice().waitFor();
    const booking = await read(`/assignments/${made.unknown}`);
    assert.deepEqual([booking.state, booking.outcome], ['failed', 'not_applied']);
    await go(page, world.address, '');
    assert.equal(await page.getByTitle(made.unknown).count(), 0);
    assert.deepEqual(faults, []);
  });

  test('the rows of an operation that failed are sent again', async () => {
    await go(page, world.address, `operations/${made.operation}`);
    await page.getByRole('button', { name: /^Retry/ }).click();
    await notice().waitFor();
    await until(async () => (await read(`/operations/${made.operation}`)).progress.applied === 2);
    // The page follows by itself.
    await page.locator('[data-count="applied"]', { hasText: /^2$/ }).waitFor();
    await page.locator('h1 .badge', { hasText: 'completed' }).waitFor();
    assert.deepEqual(faults, []);
  });

  test('a parked report finds its booking', async () => {
    await go(page, world.address, 'reports');
    await page.getByTitle(made.parked).first().click();
    await heading(/Report/).waitFor();
    const choice = page.locator('label.choice', { has: page.getByTitle(made.taken) });
    await choice.getByRole('radio').check();
    await page.getByRole('button', { name: 'Match', exact: true }).click();
    await notice().waitFor();
    const report = await read(`/reports/${made.parked}`);
    assert.deepEqual([report.state, report.assignment, report.byHand], ['applied', made.taken, true]);
    await go(page, world.address, `people/${made.lee}`);
    await page.getByText('aptitude').first().waitFor();
    assert.deepEqual(faults, []);
  });

  test('events that a webhook missed are replayed', async () => {
    await go(page, world.address, `webhooks/${made.webhook}`);
    await page.locator('summary', { hasText: 'Replay' }).click();
    const form = page.locator('details[open] form');
    await form.getByLabel('Since').fill('2020-01-01T00:00');
    await form.getByRole('radio', { name: /failed/ }).check();
    await form.getByRole('button', { name: 'Replay' }).click();
    await notice().waitFor();
    await until(async () => (await read(`/webhooks/${made.webhook}/deliveries?state=failed`)).items.length === 0);
    await go(page, world.address, `webhooks/${made.webhook}`);
    await page.locator('main .badge', { hasText: 'delivered' }).first().waitFor();
    assert.equal(await page.locator('main .badge.bad', { hasText: 'failed' }).count(), 0);
    assert.deepEqual(faults, []);
  });

  test('a sheet is imported: its columns are recognised, its wrong rows named, the others sent', async () => {
    await go(page, world.address, 'import');
    const sheet = 'Staff No;First Name;Last Name;E-Mail\n0012;Ada;Lo;ada@example.com\n0013;Bo;Ek;bo@example.com\n0014;Cy;Un;nobody\n';
    await page.getByLabel(/File/).setInputFiles({ name: 'people.csv', mimeType: 'text/csv', buffer: Buffer.from(sheet) });
    await page.getByRole('button', { name: 'Review' }).click();
    const fields = ['externalId', 'name.givenName', 'name.familyName', 'email'];
    await heading('Review').waitFor();
    for (const [index, field] of fields.entries()) {
      await page.getByLabel(`Column ${'ABCD'[index]} is sent as`).selectOption(field);
    }
    await page.getByRole('button', { name: 'Review again' }).click();
    await page.locator('.figures', { hasText: 'would be refused' }).waitFor();
    await page.getByText(/e-mail address/).first().waitFor();
    await page.getByRole('button', { name: /^Send 3 rows/ }).click();
    await heading(/Operation/).waitFor();
    const found = await until(async () => (await read('/candidates?externalId=0012')).items[0]);
    assert.equal(found.name.givenName, 'Ada');
    assert.deepEqual((await read('/candidates?externalId=0014')).items, []);
    assert.deepEqual(faults, []);
  });
});
