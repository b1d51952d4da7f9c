// The real program as the tests run it: a sandbox, gateways on ports of the system's choice, the demo, and their end.

import { spawn, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const BINARY = process.env.EXAMGATE_BINARY ?? fileURLToPath(new URL('../../target/debug/examgate', import.meta.url));

const running = new Set();
// A run that is broken off must not leave programs behind; `exit` allows nothing that waits.
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));

/** A fresh API key, and the configuration line for it. */
export function newKey() {
  const [key, line] = execFileSync(BINARY, ['key', 'new'], { encoding: 'utf8' }).trim().split('\n');
  return { key, line };
}

/** Starts the vendors' simulators; `connection` is the configuration of one of them. */
export async function startSandbox() {
  const { child, seen } = await start(['sandbox', '--port-base', '0'], /Stop with/);
  const found = (pattern) => pattern.exec(seen)[1];
  const connection = [
    '[connections.startexam-main]',
    'vendor = "startexam"',
    `base_url = "${found(/startexam\s+\S+\s+(http:\S+)/)}"`,
    `account_id = ${found(/account_id = (\d+)/)}`,
    `secret = "${found(/secret = "([^"]+)"/)}"`,
    `center = "${found(/center = "([^"]+)"/)}"`,
    `profile_id = "${found(/profile_id = "([^"]+)"/)}"`,
    'requests_per_second = 0',
  ].join('\n');
  return { connection, stop: () => stop(child) };
}

/** Starts the vendors' simulators and the LMS: their addresses, and how to make them misbehave. */
export async function startSandboxWithAll() {
  const { child, seen } = await start(['sandbox', '--port-base', '0'], /Stop with/);
  const address = (name) => new RegExp(`${name}\\s+\\S+\\s+(http:\\S+)`).exec(seen)[1];
  const [startexam, thinkexam, examtesting] = ['startexam', 'thinkexam', 'examtesting'].map(address);
  const lms = /\(webhooks\)\s+\S+\s+(http:\S+)/.exec(seen)[1];
  const ports = { startexam, thinkexam, examtesting, lms: new URL(lms).origin };
  const post = async (url, body) => {
    const response = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  };
  return {
    startexam,
    thinkexam,
    examtesting,
    lms,
    /** Replaces the faults of one of them. */
    faults: (name, faults) => post(`${ports[name]}/_faults`, { faults }),
    /** States what came of a test at StartExam. */
    session: (session) => post(`${startexam}/_sessions`, session),
    /** Has ThinkExam deliver a result of somebody to the gateway's receiver. */
    result: (url, email) => post(`${thinkexam}/_webhooks`, { url, results: [{ email, testId: '2415', unassigned: true }] }),
    stop: () => stop(child),
  };
}

/** Starts a gateway with this configuration on top of an address and a store of its own. */
export function startGateway({ server = '', connection, keyLine }) {
  return startGatewayWith(`[server]
listen = "127.0.0.1:0"
admin_listen = ""
${server}
[store]
url = "sqlite:{folder}/store.db"
encryption_key = "file:{folder}/store.key"
[auth.clients.reader]
${keyLine}
scopes = ["candidates:write", "candidates:read"]
connections = ["*"]
${connection}
`);
}

/** Starts a gateway with this configuration, in which `{folder}` is a folder of its own. */
export async function startGatewayWith(text) {
  const folder = mkdtempSync(join(tmpdir(), 'examgate-browser-'));
  const configuration = join(folder, 'examgate.toml');
  writeFileSync(configuration, text.replaceAll('{folder}', folder));
  const { child, seen } = await start(['serve', '--config', configuration], /examgate listening on http:\S+/);
  const end = async () => {
    await stop(child);
    rmSync(folder, { recursive: true });
  };
  return { address: /examgate listening on (http:\S+)/.exec(seen)[1], stop: end };
}

/** Starts the demo, which shows a key that may do everything. */
export async function startDemo() {
  const { child, seen } = await start(['demo', '--port', '0'], /Serving until/);
  const found = (name) => new RegExp(`^ *${name} +(\\S+)$`, 'm').exec(seen)[1];
  return { address: found('API'), key: found('API key'), stop: () => stop(child) };
}

/** Runs the program until it writes the line that says it is ready. */
async function start(args, ready) {
  const child = spawn(BINARY, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  child.once('exit', () => running.delete(child));
  let complaints = '';
  child.stderr.on('data', (data) => (complaints += data));
  let seen = '';
  for await (const line of lines(child.stdout)) {
    seen += `${line}\n`;
    if (ready.test(line)) {
      child.stdout.resume();
      return { child, seen };
    }
  }
  throw new Error(`${args.join(' ')} ended before it was ready:\n${seen}${complaints}`);
}

async function* lines(stream) {
  const reader = createInterface({ input: stream });
  // Leaving the loop must not end the pipe: the program still writes to it.
  const iterator = reader[Symbol.asyncIterator]();
  for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value;
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  await ended;
}
