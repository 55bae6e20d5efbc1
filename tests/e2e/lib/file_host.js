// A web server that has files, and a model hub with Hugging Face's API: as fast, true and complete as a test wants it.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import { once } from 'node:events';

const piece = 64 << 10;

export const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex');
const gitBlob = (bytes) => crypto.createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');

export class FileHost {
  /** `tls`: {key, cert} of an https server. */
  constructor({ tls } = {}) {
    this.files = new Map(); // by path
    this.repos = new Map(); // "org/repo": Map of file name to bytes
    this.requests = []; // {path, range, authorization}
    this.sentBytes = 0;
    this.holdAfter = Infinity; // bytes of all bodies together; more waits until go()
    this.answer = null; // (request, response) => true when it has answered itself
    this.waiting = [];
    this.server = tls ? https.createServer(tls, (...args) => this.serve(...args)) : http.createServer((...args) => this.serve(...args));
    this.scheme = tls ? 'https' : 'http';
  }

  async listen() {
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    this.url = `${this.scheme}://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  close() {
    this.go();
    this.server.close();
    this.server.closeAllConnections();
  }

  /** Lets all that is held go on. */
  go() {
    this.holdAfter = Infinity;
    this.waiting.splice(0).forEach((resume) => resume());
  }

  get held() {
    return this.waiting.length > 0;
  }

  async serve(request, response) {
    const path = decodeURIComponent(request.url.split('?')[0]);
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    this.requests.push({ path, range: range && [Number(range[1]), Number(range[2]) + 1], authorization: request.headers.authorization });
    if (this.answer?.(request, response)) return;
    const listing = /^\/api\/models\/([^/]+\/[^/]+)\/revision\//.exec(path);
    if (listing) return this.list(this.repos.get(listing[1]), response);
    const file = /^\/([^/]+\/[^/]+)\/resolve\/c0ffee\/(.+)$/.exec(path);
    const bytes = file ? this.repos.get(file[1])?.get(file[2]) : this.files.get(path);
    if (!bytes) {
      response.writeHead(404).end();
      return;
    }
    await this.send(request, response, bytes, range);
  }

  list(repo, response) {
    if (!repo) {
      response.writeHead(404).end();
      return;
    }
    const siblings = [...repo].map(([rfilename, bytes]) =>
      bytes.length > 1000
        ? { rfilename, size: bytes.length, lfs: { sha256: sha256(bytes), size: bytes.length, pointerSize: 1 } }
        : { rfilename, size: bytes.length, blobId: gitBlob(bytes) },
    );
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ sha: 'c0ffee', siblings }));
  }

  async send(request, response, bytes, range) {
    const etag = `"${sha256(bytes).slice(0, 16)}"`;
    const partial = range && (!request.headers['if-range'] || request.headers['if-range'] === etag);
    const begin = partial ? Number(range[1]) : 0;
    const end = partial ? Math.min(Number(range[2]) + 1, bytes.length) : bytes.length;
    assert.ok(begin < bytes.length || !partial);
    const headers = { 'content-length': end - begin, etag, 'accept-ranges': 'bytes' };
    if (partial) headers['content-range'] = `bytes ${begin}-${end - 1}/${bytes.length}`;
    response.writeHead(partial ? 206 : 200, headers);
    for (let at = begin; at < end && !response.destroyed; at += piece) {
      if (this.sentBytes >= this.holdAfter) await new Promise((resume) => this.waiting.push(resume));
      const part = bytes.subarray(at, Math.min(end, at + piece));
      this.sentBytes += part.length;
      if (response.write(part)) continue;
      const heard = new AbortController(); // takes the other one's listener away again
      await Promise.race(['drain', 'close'].map((event) => once(response, event, { signal: heard.signal })));
      heard.abort();
    }
    response.end();
  }
}
