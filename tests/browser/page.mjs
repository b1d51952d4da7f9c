// The documentation page as a reader uses it: what is clicked and typed, and what the browser had to say about it.

import { chromium } from 'playwright-core';

const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // A page that asks for another host fails here as it would offline.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];

// Long enough for the slowest machine; only a hang comes this far.
const PATIENCE = 120_000;

export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ARGUMENTS, timeout: PATIENCE });

/** A page, with everything that went wrong on it and every address it asked for. */
export async function open(browser, address) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const faults = [];
  const requests = [];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && faults.push(message.text()));
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('requestfailed', (request) => faults.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.on('response', (response) => response.status() >= 400 && faults.push(`${response.url()}: ${response.status()}`));
  context.on('request', (request) => requests.push(request.url()));
  const response = await page.goto(address);
  await page.locator('.opblock').first().waitFor();
  return { page, faults, requests, response, close: () => context.close() };
}

/** The groups of operations, and how many operations each shows. */
export async function groups(page) {
  const sections = await page.locator('.opblock-tag-section').all();
  const entries = sections.map(async (section) => [
    await section.locator('.opblock-tag').getAttribute('data-tag'),
    await section.locator('.opblock').count(),
  ]);
  return Object.fromEntries(await Promise.all(entries));
}

/** Enters a key for the scheme `bearer` as a reader does. */
export async function authorise(page, key) {
  await page.locator('.scheme-container button.authorize').click();
  const dialog = page.locator('.dialog-ux .modal-ux');
  const bearer = dialog.locator('.auth-container', { hasText: 'bearer' });
  await bearer.locator('input').fill(key);
  await bearer.locator('button.authorize').click();
  await bearer.getByText('Authorized').waitFor();
  await bearer.locator('button.btn-done').click();
  await dialog.waitFor({ state: 'detached' });
}

/** Everything the page has put where it outlives the page. */
export const stored = (page) =>
  page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));

/**
 * Opens an operation and executes it as it stands, in every media type it can send. Gives each answer's status and body,
 * leaves the last one on the page for `look`, and closes the operation.
 */
export async function executeUntouched(page, operationId, look = async () => {}) {
  const block = page.locator(`[id$="-${operationId}"].opblock`);
  await block.locator('.opblock-summary-control').click();
  const button = block.locator('button.execute');
  await button.waitFor();
  const choice = block.locator('.opblock-section-request-body select.content-type');
  const types = (await choice.count()) ? await choice.locator('option').allInnerTexts() : [''];
  const answers = [];
  for (const type of types) {
    if (type) await choice.selectOption(type);
    await button.click();
    const live = block.locator('.live-responses-table');
    await live.waitFor();
    const code = await live.locator('.response-col_status').last().innerText();
    const text = live.locator('.response-col_description .highlight-code code').first();
    const body = (await text.count()) ? await text.innerText() : '';
    answers.push({ type, status: Number.parseInt(code, 10), body });
    await look(block);
    await block.locator('button.btn-clear').click();
    await live.waitFor({ state: 'detached' });
  }
  await block.locator('.opblock-summary-control').click();
  return answers;
}

/** Opens an operation, fills its form with `fill`, executes it, and gives the answer as the page shows it. */
export async function execute(page, operationId, fill = async () => {}) {
  const block = page.locator(`[id$="-${operationId}"].opblock`);
  await block.locator('.opblock-summary-control').click();
  await block.locator('button.execute').waitFor();
  await fill(block);
  await block.locator('button.execute').click();
  const live = block.locator('.live-responses-table');
  await live.waitFor();
  const status = Number.parseInt(await live.locator('.response-col_status').last().innerText(), 10);
  if (Number.isNaN(status)) throw new Error(`${operationId} had no answer: ${await live.innerText()}`);
  const address = await block.locator('.request-url pre').innerText();
  const body = await live.locator('.response-col_description .highlight-code code').first().innerText();
  const picture = async (path) => {
    await live.evaluate((element) => element.scrollIntoView());
    await page.screenshot({ path });
  };
  return { status, address, body: JSON.parse(body), picture };
}
