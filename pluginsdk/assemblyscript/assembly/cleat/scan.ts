// How JSON text is walked through, byte by byte. Only space, strictly and what
// they need look at text that has not been checked; the others trust it.

import { MAX_JSON_DEPTH } from "./abi";
import * as utf8 from "./utf8";

/** The first place that is no white space. */
export function space(at: usize, end: usize): usize {
  while (at < end && isSpace(load<u8>(at))) at++;
  return at;
}

// @ts-ignore: decorator
@inline
function isSpace(c: u8): bool {
  return c == 0x20 || c == 0x0a || c == 0x0d || c == 0x09;
}

// @ts-ignore: decorator
@inline
function isDigit(c: u8): bool {
  return <u8>(c - 0x30) < 10;
}

/** Where the value at that place ends; 0 when it is malformed. */
export function strictly(at: usize, end: usize, depth: i32): usize {
  if (at >= end) return 0;
  switch (load<u8>(at)) {
    case 0x22: return quoted(at, end);
    case 0x7b: return depth == MAX_JSON_DEPTH ? 0 : object(at + 1, end, depth + 1);
    case 0x5b: return depth == MAX_JSON_DEPTH ? 0 : list(at + 1, end, depth + 1);
    case 0x74: return word(at, end, 0x65757274, 4); // true
    case 0x66: return word(at + 1, end, 0x65736c61, 4); // alse
    case 0x6e: return word(at, end, 0x6c6c756e, 4); // null
  }
  return number(at, end);
}

// @ts-ignore: decorator
@inline
function word(at: usize, end: usize, letters: u32, size: usize): usize {
  return end - at >= size && load<u32>(at) == letters ? at + size : 0;
}

function list(at: usize, end: usize, depth: i32): usize {
  at = space(at, end);
  if (at < end && load<u8>(at) == 0x5d) return at + 1;
  while (true) {
    at = strictly(at, end, depth);
    if (!at) return 0;
    at = space(at, end);
    if (at >= end) return 0;
    const c = load<u8>(at++);
    if (c == 0x5d) return at;
    if (c != 0x2c) return 0;
    at = space(at, end);
  }
}

function object(at: usize, end: usize, depth: i32): usize {
  const begin = at - 1;
  at = space(at, end);
  if (at < end && load<u8>(at) == 0x7d) return at + 1;
  let last: usize = 0;
  let lastSize: usize = 0;
  let rising = true;
  while (true) {
    if (at >= end || load<u8>(at) != 0x22) return 0;
    const key = at + 1;
    at = quoted(at, end);
    if (!at) return 0;
    const size = at - key - 1;
    rising = rising && !escapes(key, key + size) && (!last || rises(last, lastSize, key, size));
    last = key;
    lastSize = size;
    at = space(at, end);
    if (at >= end || load<u8>(at) != 0x3a) return 0;
    at = strictly(space(at + 1, end), end, depth);
    if (!at) return 0;
    at = space(at, end);
    if (at >= end) return 0;
    const c = load<u8>(at++);
    if (c == 0x7d) return rising || distinct(begin) ? at : 0;
    if (c != 0x2c) return 0;
    at = space(at, end);
  }
}

// The keys of canonical JSON rise, so no two are equal. Only other objects need
// a second look.

function rises(a: usize, aSize: usize, b: usize, bSize: usize): bool {
  const order = memory.compare(a, b, min(aSize, bSize));
  return order < 0 || (order == 0 && aSize < bSize);
}

function distinct(begin: usize): bool {
  const seen = new Set<string>();
  for (let at = first(begin); load<u8>(at) != 0x7d; at = following(at)) {
    const after = hop(at);
    const key = text(at + 1, after - 1);
    if (seen.has(key)) return false;
    seen.add(key);
    at = colonAfter(after);
  }
  return true;
}

/** Where the string that begins with the quote at that place ends. */
function quoted(at: usize, end: usize): usize {
  for (at++; at < end; ) {
    const c = load<u8>(at);
    if (c == 0x22) return at + 1;
    if (c < 0x20) return 0;
    if (c == 0x5c) {
      if (end - at < 2) return 0;
      const escape = load<u8>(at, 1);
      if (escape == 0x75) {
        if (end - at < 6 || hex(at + 2) < 0) return 0;
        at += 6;
      } else if (plain(escape)) {
        at += 2;
      } else {
        return 0;
      }
    } else if (c < 0x80) {
      at++;
    } else {
      const found = utf8.sequence(at, end);
      if (!found) return 0;
      at += found >> 24;
    }
  }
  return 0;
}

/** Four hexadecimal digits, -1 when they are none. */
function hex(at: usize): i32 {
  let n: i32 = 0;
  for (let i = 0; i < 4; i++) {
    const c = load<u8>(at + i);
    const lower: u8 = c | 0x20;
    if (isDigit(c)) n = (n << 4) | (c - 0x30);
    else if (lower >= 0x61 && lower <= 0x66) n = (n << 4) | (lower - 0x57);
    else return -1;
  }
  return n;
}

/** What a short escape stands for, 0 when there is no such escape. */
function plain(escape: u8): u8 {
  switch (escape) {
    case 0x22: case 0x5c: case 0x2f: return escape;
    case 0x62: return 0x08;
    case 0x66: return 0x0c;
    case 0x6e: return 0x0a;
    case 0x72: return 0x0d;
    case 0x74: return 0x09;
  }
  return 0;
}

function number(at: usize, end: usize): usize {
  if (load<u8>(at) == 0x2d) at++;
  const whole = at;
  at = digits(at, end);
  if (!at || (at - whole > 1 && load<u8>(whole) == 0x30)) return 0;
  if (at < end && load<u8>(at) == 0x2e) {
    at = digits(at + 1, end);
    if (!at) return 0;
  }
  if (at < end && (load<u8>(at) | 0x20) == 0x65) {
    at++;
    if (at < end && (load<u8>(at) == 0x2b || load<u8>(at) == 0x2d)) at++;
    at = digits(at, end);
  }
  return at;
}

/** Where one or more digits end; 0 when there is none. */
function digits(at: usize, end: usize): usize {
  const begin = at;
  while (at < end && isDigit(load<u8>(at))) at++;
  return at == begin ? 0 : at;
}

/** Where a value ends. */
export function hop(at: usize): usize {
  let depth = 0;
  do {
    const c = load<u8>(at++);
    if (c == 0x22) {
      for (let inside = load<u8>(at++); inside != 0x22; inside = load<u8>(at++)) if (inside == 0x5c) at++;
    } else if (c == 0x7b || c == 0x5b) {
      depth++;
    } else if (c == 0x7d || c == 0x5d) {
      depth--;
    } else if (!depth) {
      // A number or a word, of which one byte has been read.
      while (inWord(load<u8>(at))) at++;
    }
  } while (depth);
  return at;
}

// @ts-ignore: decorator
@inline
function inWord(c: u8): bool {
  return isDigit(c) || <u8>((c | 0x20) - 0x61) < 26 || c == 0x2e || c == 0x2b || c == 0x2d;
}

/** The first place after white space. */
function past(at: usize): usize {
  while (isSpace(load<u8>(at))) at++;
  return at;
}

/** The first element or key of the container that begins there, or its end. */
export function first(container: usize): usize {
  return past(container + 1);
}

/** What comes after the element, or value of a key, that begins there: another, or the end. */
export function following(value: usize): usize {
  const at = past(hop(value));
  return load<u8>(at) == 0x2c ? past(at + 1) : at;
}

/** The value of the key that ends there. */
export function colonAfter(key: usize): usize {
  return past(past(key) + 1);
}

/** Whether a string, without its quotes, has a backslash. */
export function escapes(at: usize, end: usize): bool {
  for (; at < end; at++) if (load<u8>(at) == 0x5c) return true;
  return false;
}

/** The string between two quotes. */
export function text(at: usize, end: usize): string {
  if (!escapes(at, end)) return utf8.decode(at, <u32>(end - at));
  const plain = bytes(at, end);
  return utf8.decode(changetype<usize>(plain), plain.length);
}

/** The string between two quotes, as UTF-8. */
export function bytes(at: usize, end: usize): StaticArray<u8> {
  const plain = new StaticArray<u8>(<i32>unescape(at, end, 0));
  unescape(at, end, changetype<usize>(plain));
  return plain;
}

/** Writes the string between two quotes as UTF-8, unless to is 0, and returns its length. */
function unescape(at: usize, end: usize, to: usize): usize {
  let size: usize = 0;
  while (at < end) {
    let c = <u32>load<u8>(at++);
    if (c != 0x5c) {
      if (to) store<u8>(to + size, c);
      size++;
      continue;
    }
    const escape = load<u8>(at++);
    if (escape != 0x75) {
      if (to) store<u8>(to + size, plain(escape));
      size++;
      continue;
    }
    c = hex(at);
    at += 4;
    if ((c & 0xf800) == 0xd800) {
      const low = end - at >= 6 && load<u16>(at) == 0x755c ? hex(at + 2) : 0;
      if (c < 0xdc00 && (low & 0xfc00) == 0xdc00) {
        c = 0x10000 + ((c & 0x3ff) << 10) + (low & 0x3ff);
        at += 6;
      } else {
        c = 0xfffd; // half of a pair
      }
    }
    size += utf8.put(c, to ? to + size : 0);
  }
  return size;
}

/** Whether the string from its quote to the place behind the other one is that key. */
export function keyIs(at: usize, end: usize, key: string): bool {
  at++;
  end--;
  const units = changetype<usize>(key);
  if (end - at == <usize>key.length) {
    let i: usize = 0;
    for (; at + i < end; i++) {
      const c = load<u8>(at + i);
      if (c >= 0x80 || c == 0x5c) break;
      if (c != load<u16>(units + 2 * i)) return false;
    }
    if (at + i == end) return true;
  }
  return text(at, end) == key;
}
