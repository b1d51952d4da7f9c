// The documentation page of the demo as a newcomer uses it: with the key that the demo shows, every operation is executed
// as the page fills it in. Each succeeds, or says in one sentence that what its example names does not exist or is not allowed.

import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { authorise, executeUntouched, launch, open } from './page.mjs';
import { startDemo } from './program.mjs';

// Only a hang comes this far.
const PATIENCE = { timeout: 600_000 };
// What the gateway or the operator assigns cannot be known beforehand: the example is made up.
const MADE_UP = /^((cand|asg|op|exc|rep|res|wh|dlv)_[0-9a-f]{32}|a-long-random-token)$/;
// What the operator of the demo does not allow: an address outside this machine.
const REFUSED = { createWebhook: 'webhook_not_allowed' };
const WIDTHS = [1280, 400];

const pictures = mkdtempSync(join(tmpdir(), 'examgate-operations-'));
let demo;
let browser;
let description;

before(async () => {
  demo = await startDemo();
  browser = await launch();
  description = await (await fetch(`${demo.address}/openapi.json`)).json();
});

after(async () => {
  await browser?.close();
  await demo?.stop();
  console.log(`pictures of the operations: ${pictures}`);
});

function operations() {
  const found = Object.entries(description.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ ...operation, place: `${method.toUpperCase()} ${path}` })),
  );
  assert.notEqual(found.length, 0);
  return found;
}

const isMadeUp = ({ parameters = [] }) => parameters.some((parameter) => MADE_UP.test(parameter.example));

describe('the page of the demo', () => {
  test('every operation succeeds untouched, or says what its example lacks', PATIENCE, async () => {
    const { page, close } = await open(browser, `${demo.address}/docs/`);
    await authorise(page, demo.key);
    const faults = [];
    for (const operation of operations()) {
      for (const { type, status, body } of await executeUntouched(page, operation.operationId)) {
        const fault = faultOf(operation, status, body);
        if (fault) faults.push(`${operation.place} ${type}: ${fault}`);
      }
    }
    assert.deepEqual(faults, []);
    await close();
  });

  test('the title names the API, and the filter finds paths and words', PATIENCE, async () => {
    const { page, faults, close } = await open(browser, `${demo.address}/docs/`);
    assert.equal(await page.title(), 'examgate API');
    const paths = () => page.locator('.opblock-summary-path').evaluateAll((all) => all.map((one) => one.dataset.path));
    // Below the operations are the events, which a webhook receives.
    const all = [...operations().map(({ place }) => place.split(' ')[1]), ...Object.keys(description.webhooks)].sort();
    assert.deepEqual((await paths()).sort(), all);
    const box = page.locator('.operation-filter-input');
    await box.fill('POST Bulk');
    await page.locator('[id$="-listOperations"].opblock').waitFor({ state: 'detached' });
    assert.deepEqual(await paths(), ['/candidates/bulk', '/assignments/bulk']);
    await box.fill('liveness');
    await page.locator('[id$="-getLiveness"].opblock').waitFor();
    assert.deepEqual(await paths(), ['/livez']);
    await box.fill('Result.P');
    await page.locator('[data-path="result.published"]').waitFor();
    assert.deepEqual(await paths(), ['result.published']);
    await box.fill('');
    await page.locator('[id$="-listOperations"].opblock').waitFor();
    assert.deepEqual((await paths()).sort(), all);
    assert.deepEqual(faults, []);
    await close();
  });

  for (const width of WIDTHS) {
    test(`nothing is cut off at a width of ${width}`, PATIENCE, async () => {
      const { page, close } = await open(browser, `${demo.address}/docs/`);
      await page.setViewportSize({ width, height: 900 });
      await authorise(page, demo.key);
      await page.screenshot({ path: join(pictures, `${width}.png`) });
      for (const operationId of ['createCandidatesBulk', 'listAssignments']) {
        await executeUntouched(page, operationId, async (block) => {
          assert.deepEqual(await outside(page), [], operationId);
          await block.screenshot({ path: join(pictures, `${width}-${operationId}.png`) });
        });
      }
      await close();
    });
  }
});

/** What is wrong with an answer to an operation as the page fills it in, if anything is. */
function faultOf(operation, status, body) {
  if (isMadeUp(operation)) {
    const { code, detail } = JSON.parse(body);
    return status === 404 && code === 'not_found' && detail ? undefined : `${status} ${body}`;
  }
  const refusal = REFUSED[operation.operationId];
  if (refusal) {
    const { code, detail } = JSON.parse(body);
    return status === 422 && code === refusal && detail ? undefined : `${status} ${body}`;
  }
  const failedRows = status === 207 && JSON.parse(body).summary.applied !== JSON.parse(body).summary.total;
  return status >= 200 && status < 300 && !failedRows ? undefined : `${status} ${body}`;
}

/** The elements that reach beyond the right edge, unless one around them scrolls; and the page, if it does. */
function outside(page) {
  return page.evaluate(() => {
    const scrolls = (element) => element && (getComputedStyle(element).overflowX !== 'visible' || scrolls(element.parentElement));
    const all = [...document.querySelectorAll('#swagger-ui *')];
    const beyond = all.filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !scrolls(one.parentElement));
    const { scrollWidth, clientWidth } = document.documentElement;
    const found = beyond.map((one) => `${one.tagName}.${one.className}`);
    return scrollWidth > clientWidth ? [...found, `the page: ${scrollWidth} > ${clientWidth}`] : found;
  });
}
