// AssemblyScript strings are UTF-16, the ABI speaks UTF-8. What is malformed
// becomes U+FFFD on the way, in both directions; the standard library would
// take an overlong sequence for the character it hides.

// @ts-ignore: decorator
@inline const REPLACEMENT: u32 = 0xfffd;

/** The text in that many bytes of UTF-8. */
export function decode(at: usize, size: u32): string {
  // A byte gives one unit at most.
  const text = __new(<usize>size << 1, idof<string>());
  const end = at + size;
  let to = text;
  while (at < end) {
    const byte = <u32>load<u8>(at);
    if (byte < 0x80) {
      store<u16>(to, byte);
      at++;
      to += 2;
      continue;
    }
    const found = sequence(at, end);
    const c = found ? found & 0x1fffff : REPLACEMENT;
    at += <usize>max(found >> 24, 1);
    if (c < 0x10000) {
      store<u16>(to, c);
      to += 2;
    } else {
      store<u16>(to, 0xd7c0 + (c >> 10));
      store<u16>(to, 0xdc00 | (c & 0x3ff), 2);
      to += 4;
    }
  }
  return changetype<string>(to == text + (<usize>size << 1) ? text : __renew(text, to - text));
}

/**
 * The character whose first byte, of 0x80 or more, is at that place, with its
 * length in bytes from bit 24 on; 0 when it is malformed.
 */
export function sequence(at: usize, end: usize): u32 {
  const lead = <u32>load<u8>(at);
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const length: u32 = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (end - at < <usize>length) return 0;
  let c = lead & (0x7f >> length);
  for (let i: u32 = 1; i < length; i++) {
    const byte = <u32>load<u8>(at + i);
    if ((byte & 0xc0) != 0x80) return 0;
    c = (c << 6) | (byte & 0x3f);
  }
  if (length == 3 && (c < 0x800 || (c & 0xf800) == 0xd800)) return 0;
  if (length == 4 && (c < 0x10000 || c > 0x10ffff)) return 0;
  return (length << 24) | c;
}

/** Writes a character, unless to is 0, and returns its length in bytes. */
export function put(c: u32, to: usize): u32 {
  if (c < 0x80) {
    if (to) store<u8>(to, c);
    return 1;
  }
  const length: u32 = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  if (to) {
    for (let i = length - 1; i > 0; i--, c >>= 6) store<u8>(to + i, 0x80 | (c & 0x3f));
    store<u8>(to, c | (0xf00 >> length));
  }
  return length;
}

/** How many bytes the text has as UTF-8. */
export function length(text: string): u32 {
  return String.UTF8.byteLength(text);
}

/** Writes text as UTF-8, which takes three bytes a unit at most, and returns how many it wrote. */
export function encode(text: string, to: usize): u32 {
  return <u32>String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, to, false, String.UTF8.ErrorMode.REPLACE);
}

/** The text as UTF-8. */
export function bytes(text: string): StaticArray<u8> {
  const all = new StaticArray<u8>(length(text));
  encode(text, changetype<usize>(all));
  return all;
}
