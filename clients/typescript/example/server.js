/**
 * The backend of the example shop: serves the built page, and creates access tokens for it.
 *
 *     ESIM_STATUS_URL=http://127.0.0.1:8080 ESIM_STATUS_API_KEY=… node example/server.js
 *
 * `PORT` (3000) is where it listens; `ESIM_ICCID` is the eSIM that was sold, by default the sample of `esim-status dev`.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { EsimStatus, EsimStatusError } from 'esim-status-client';

const { ESIM_STATUS_URL: baseUrl, ESIM_STATUS_API_KEY: apiKey, ESIM_ICCID: iccid = '89972123300991848961', PORT = '3000' } = process.env;
const client = new EsimStatus({ baseUrl, apiKey });

const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8' };
const POLICY = `default-src 'self'; connect-src 'self' ${new URL(baseUrl).origin}; img-src 'self' blob:`;

/** The files of the page by their paths. */
const dist = new URL('dist/', import.meta.url);
const pages = new Map(['', ...readdirSync(new URL('assets/', dist)).map((name) => `assets/${name}`)]
  .map((path) => [`/${path}`, { type: TYPES[extname(path || '.html')] ?? TYPES['.html'], body: readFileSync(new URL(path || 'index.html', dist)) }]));

/** A shop would check here that the caller is logged in and that the order is theirs. */
async function createToken(response) {
  try {
    const { token } = await client.createToken(iccid, { ttlSeconds: 3_600 });
    response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' }).end(JSON.stringify({ token, baseUrl }));
  } catch (error) {
    if (!(error instanceof EsimStatusError)) throw error;
    console.error(error);
    response.writeHead(502).end();
  }
}

const server = createServer((request, response) => {
  const page = pages.get(request.url ?? '');
  if (request.method === 'POST' && request.url === '/api/orders/A-4711/token') void createToken(response);
  else if (page) response.writeHead(200, { 'Content-Type': page.type, 'Content-Security-Policy': POLICY }).end(page.body);
  else response.writeHead(404).end();
});
server.listen(Number(PORT), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
