/**
 * The backend of the example shop: serves the built page, and creates access tokens for it.
 *
 *     ESIM_STATUS_URL=http://127.0.0.1:8080 ESIM_STATUS_API_KEY=… node example/server.js
 *
 * `PORT` (3000) is where it listens; `ESIM_ICCID` is the eSIM that was sold, by default the sample of `esim-status dev`.
 * `ESIM_STATUS_BROWSER_URL` is where browsers reach the service, if it allows the shop's origin. By default they reach it
 * through this server, below `/esim`, because `esim-status dev` allows no other origin.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { createServer, request as send } from 'node:http';
import { extname } from 'node:path';
import { EsimStatus, EsimStatusError } from 'esim-status-client';

const { ESIM_STATUS_URL: baseUrl, ESIM_STATUS_API_KEY: apiKey, PORT = '3000' } = process.env;
const iccid = process.env.ESIM_ICCID ?? '89972123300991848961';
const origin = `http://127.0.0.1:${PORT}`;
const browserUrl = process.env.ESIM_STATUS_BROWSER_URL ?? `${origin}/esim`;
const client = new EsimStatus({ baseUrl, apiKey });

const POLICY = `default-src 'self'; connect-src 'self' ${new URL(browserUrl).origin}; img-src 'self' blob:`;
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

/** The files of the page by their paths. */
const dist = new URL('dist/', import.meta.url);
const files = ['index.html', ...readdirSync(new URL('assets/', dist)).map((name) => `assets/${name}`)];
const pages = new Map(files.map((file) => [
  file === 'index.html' ? '/' : `/${file}`,
  { type: `${TYPES[extname(file)]}; charset=utf-8`, body: readFileSync(new URL(file, dist)) },
]));

/** A shop would check here that the caller is logged in and that the order is theirs. */
async function createToken(response) {
  try {
    const { token } = await client.createToken(iccid, { ttlSeconds: 3_600 });
    const headers = { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' };
    response.writeHead(200, headers).end(JSON.stringify({ token, baseUrl: browserUrl }));
  } catch (error) {
    if (!(error instanceof EsimStatusError)) throw error;
    console.error(error);
    response.writeHead(502).end();
  }
}

/** Passes a request of the page on to the service, and the answer back as it comes: it may be a stream. */
function passOn(request, response) {
  const { method, headers, url } = request;
  const passed = send(new URL(url.slice('/esim'.length), baseUrl), { method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  passed.on('error', () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
  response.on('close', () => passed.destroy());
  request.pipe(passed);
}

const server = createServer((request, response) => {
  const page = pages.get(request.url);
  if (request.method === 'POST' && request.url === '/api/orders/A-4711/token') void createToken(response);
  else if (request.url.startsWith('/esim/v1/profiles/self')) passOn(request, response);
  else if (page) {
    response.writeHead(200, { 'Content-Type': page.type, 'Content-Security-Policy': POLICY }).end(page.body);
  } else response.writeHead(404).end();
});
server.listen(Number(PORT), '127.0.0.1', () => console.log(origin));
