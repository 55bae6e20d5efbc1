// What is in an image that gVisor wrote.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';

const magicBytes = 8;
const hashBytes = 32;

/**
 * The bytes of an image, uncompressed, in one buffer: the memory of the engine among them.
 *
 * Old releases write one file: magic, length and text of the metadata (JSON), a hash, then the size of a chunk and chunks of raw deflate with
 * their lengths, all big-endian (gVisor: pkg/state/statefile, pkg/compressio). What newer ones write beside it uncompressed is taken as it is.
 */
export function imageContents(directory) {
  const files = fs.readdirSync(directory).filter((name) => !name.startsWith('manifest'));
  return Buffer.concat(files.map((name) => contentsOf(fs.readFileSync(path.join(directory, name)))));
}

function contentsOf(file) {
  const metadataBytes = file.length > 16 ? Number(file.readBigUInt64BE(magicBytes)) : Infinity;
  const metadataEnd = magicBytes + 8 + metadataBytes;
  if (metadataEnd + hashBytes + 8 > file.length) return file;
  const metadata = JSON.parse(file.subarray(magicBytes + 8, metadataEnd).toString());
  if (metadata.compression === 'none') return file;
  const pieces = [];
  let at = metadataEnd + hashBytes + 4;
  while (at < file.length) {
    const bytes = file.readUInt32BE(at);
    assert.ok(at + 4 + bytes <= file.length, `a chunk of ${bytes} bytes at ${at} of ${file.length}: not the format that this reads`);
    pieces.push(zlib.inflateRawSync(file.subarray(at + 4, at + 4 + bytes)));
    at += 4 + bytes;
  }
  return Buffer.concat(pieces);
}
