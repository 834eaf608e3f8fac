/**
 * Runs the tests of the built package in Node.js, against a running service. `npm test` builds first.
 *
 * The service is the one of the environment (`ESIM_STATUS_URL`, `ESIM_STATUS_API_KEY`, `ESIM_STATUS_WEBHOOK_URL`), or
 * `esim-status dev` from this repository: `ESIM_STATUS_BINARY`, or the debug build, which is built if it is missing.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

/** The path of the service's binary. */
function binary() {
  const { ESIM_STATUS_BINARY: given } = process.env;
  const built = '../../target/debug/esim-status';
  if (given || existsSync(built)) return given ?? built;
  const { status } = spawnSync('cargo', ['build', '--quiet', '--manifest-path', '../../Cargo.toml'], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
  return built;
}

/** Starts `esim-status dev`, and puts what it prints into the environment. Returns its process. */
async function start() {
  const service = spawn(binary(), ['dev', '--ephemeral'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  service.stderr.on('data', (text) => { log += text; });
  for await (const line of createInterface({ input: service.stdout })) {
    const [, name, value] = /^ {2}(Webhook URL|API key) +(\S+)/.exec(line) ?? [];
    if (name === 'API key') process.env.ESIM_STATUS_API_KEY = value;
    if (name === 'Webhook URL') {
      process.env.ESIM_STATUS_WEBHOOK_URL = value;
      process.env.ESIM_STATUS_URL = new URL(value).origin;
    }
    if (line.includes('Ctrl-C')) return service;
  }
  console.error(`the service does not start:\n${log}`);
  process.exit(1);
}

const service = process.env.ESIM_STATUS_URL ? null : await start();
const tests = spawn(process.execPath, ['--test', '--test-reporter', 'spec', 'build/'], { stdio: 'inherit' });
tests.on('exit', (code) => {
  service?.kill('SIGINT');
  process.exitCode = code ?? 1;
});
