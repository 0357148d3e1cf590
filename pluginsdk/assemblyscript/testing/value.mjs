// Values as they cross the boundary.

import { Buffer } from "node:buffer";
import { limits } from "../tools/abi.mjs";
import { canonical } from "../tools/json.mjs";

const maxDepth = 16;

/** The bytes of a value in the shape of decoded JSON. Integers may be BigInts. */
export function encode(value) {
  const parts = [];
  append(parts, value, 0);
  return Buffer.concat(parts);
}

function append(parts, value, depth) {
  if (value === null || value === undefined) {
    parts.push(Buffer.of(0));
  } else if (typeof value === "boolean") {
    parts.push(Buffer.of(value ? 2 : 1));
  } else if (typeof value === "bigint" || Number.isInteger(value)) {
    const part = Buffer.alloc(9, 3);
    part.writeBigInt64LE(BigInt(value), 1);
    parts.push(part);
  } else if (typeof value === "number") {
    const part = Buffer.alloc(9, 4);
    part.writeDoubleLE(value, 1);
    parts.push(part);
  } else if (typeof value === "string") {
    parts.push(...sized(5, value));
  } else if (Array.isArray(value)) {
    if (depth === maxDepth) throw new RangeError(`lists nest deeper than ${maxDepth}`);
    parts.push(head(6, value.length));
    for (const element of value) append(parts, element, depth + 1);
  } else {
    parts.push(...sized(7, canonical(value)));
  }
}

function sized(tag, text) {
  const bytes = Buffer.from(text);
  return [head(tag, bytes.length), bytes];
}

function head(tag, count) {
  const part = Buffer.alloc(5, tag);
  part.writeUInt32LE(count, 1);
  return part;
}

/** The value in bytes, undefined when they are not exactly one well-formed value. */
export function decode(bytes) {
  if (bytes.length > limits.value) return undefined;
  const reader = { bytes: Buffer.from(bytes), at: 0 };
  try {
    const value = read(reader, 0);
    return reader.at === bytes.length ? value : undefined;
  } catch {
    return undefined; // it ends too early, or holds what is no UTF-8 or no JSON
  }
}

function read(r, depth) {
  const tag = r.bytes.readUInt8(r.at++);
  switch (tag) {
    case 0: return null;
    case 1: return false;
    case 2: return true;
    case 3: {
      const n = r.bytes.readBigInt64LE(take(r, 8));
      return Number.isSafeInteger(Number(n)) ? Number(n) : n;
    }
    case 4: {
      const n = r.bytes.readDoubleLE(take(r, 8));
      if (!Number.isFinite(n)) throw new RangeError("no number of JSON");
      return n;
    }
    case 5: return text(r);
    case 7: return JSON.parse(text(r));
    case 6: {
      if (depth === maxDepth) throw new RangeError("too deep");
      const list = [];
      for (let left = r.bytes.readUInt32LE(take(r, 4)); left > 0; left--) list.push(read(r, depth + 1));
      return list;
    }
  }
  throw new RangeError("no such tag");
}

function take(r, size) {
  if (size > r.bytes.length - r.at) throw new RangeError("ends too early");
  r.at += size;
  return r.at - size;
}

function text(r) {
  const size = r.bytes.readUInt32LE(take(r, 4));
  const at = take(r, size);
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(r.bytes.subarray(at, at + size));
}
