// The console as a person uses it in a browser: signing in, moving about, and what the browser had to say about it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

// Only a hang comes this far.
const PATIENCE = 30_000;

/** A page of a browser of its own that is not signed in. `faults` fills with everything that goes wrong on it. */
export async function visit(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, timezoneId: 'UTC', ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const faults = [];
  const requests = [];
  // A violation of the security policy is an error on the browser's console.
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && faults.push(message.text()));
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('response', (response) => response.status() >= 500 && faults.push(`${response.url()}: ${response.status()}`));
  context.on('request', (request) => requests.push(request.url()));
  return { page, context, faults, requests, close: () => context.close() };
}

/** Signs in as a person does: opens the console, types the key, sends it. */
export async function signIn(page, root, key) {
  await page.goto(`${root}/console`);
  await page.getByLabel('API key').fill(key);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('navigation', { name: 'Screens' }).waitFor();
}

/** A signed-in page. */
export async function enter(browser, root, key, options) {
  const visited = await visit(browser, options);
  await signIn(visited.page, root, key);
  return visited;
}

/** Opens a page below `console/` and expects this status. */
export async function go(page, root, path, status = 200) {
  const open = () => page.goto(`${root}/console/${path}`);
  // The page of an operation that ends loads itself again, which may be at this very moment.
  const response = await open().catch((error) => {
    if (!/ERR_ABORTED|interrupted by another navigation/.test(error.message)) throw error;
    return open();
  });
  assert.equal(response.status(), status, path);
  return response;
}

/** What axe finds: labels, contrast, structure. */
export async function violations(page) {
  if (!(await page.evaluate(() => 'axe' in globalThis))) await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'] });
    return violations.flatMap(({ id, nodes }) => nodes.map(({ html, any }) => `${id}: ${html.slice(0, 200)} ${any[0]?.message ?? ''}`));
  });
}

/** How far the page is wider than the window, and the first elements that stick out of it. */
export function beyond(page) {
  return page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const out = [...document.querySelectorAll('main *')].filter((one) => one.getBoundingClientRect().right > innerWidth + 1);
    return [`the page: ${scrollWidth} > ${clientWidth}`, ...out.slice(0, 5).map(({ outerHTML }) => outerHTML.slice(0, 120))];
  });
}

/** Opens or closes everything that unfolds. */
export const unfold = (page, open) =>
  page.evaluate((open) => document.querySelectorAll('details').forEach((one) => (one.open = open)), open);

/** Presses Tab until the element with this text or label has the focus, which must be visible at every stop. */
export async function tabTo(page, wanted) {
  for (let stops = 0; stops < 120; stops++) {
    await page.keyboard.press('Tab');
    const { name, hidden } = await page.evaluate(() => {
      const one = document.activeElement;
      const label = one.labels?.[0]?.textContent ?? '';
      const { outlineStyle, outlineWidth } = getComputedStyle(one);
      return {
        name: `${label} ${one.getAttribute('aria-label') ?? ''} ${one.textContent}`.replace(/\s+/g, ' ').trim(),
        hidden: one !== document.body && (outlineStyle === 'none' || outlineWidth === '0px'),
      };
    });
    assert.ok(!hidden, `the focus on “${name}” is not visible`);
    if (wanted.test(name)) return name;
  }
  return assert.fail(`the keyboard does not reach ${wanted}`);
}
