// Values as they cross the boundary: one tag byte and what it needs.

import * as abi from "./abi";
import { Bytes } from "./bytes";
import { Json } from "./json";
import * as utf8 from "./utf8";

/** One value. It stays valid for as long as it is kept. */
export class Value {
  /** What an absent value is. */
  static readonly NULL: Value = new Value([0], 0);

  private constructor(private bytes: StaticArray<u8>, private offset: u32) {}

  /** The value that fills the bytes, or null when they are not exactly one well-formed value. */
  static decode(bytes: StaticArray<u8>): Value | null {
    const at = changetype<usize>(bytes);
    const end = at + bytes.length;
    return skip(at, end, 0) == end ? new Value(bytes, 0) : null;
  }

  // @ts-ignore: decorator
  @inline
  private get at(): usize {
    return changetype<usize>(this.bytes) + this.offset;
  }

  /** One of the TAG constants. */
  get tag(): i32 {
    return load<u8>(this.at);
  }

  /** Whether the value is null or absent. */
  get isNull(): bool {
    return this.tag == abi.TAG_NULL;
  }

  /** Whether the value is the boolean true. */
  get isTrue(): bool {
    return this.tag == abi.TAG_TRUE;
  }

  /** The integer, 0 for any other value. */
  int(): i64 {
    return this.tag == abi.TAG_INT ? load<i64>(this.at, 1) : 0;
  }

  /** The number, also an integer; 0 for any other value. */
  float(): f64 {
    return this.tag == abi.TAG_FLOAT ? load<f64>(this.at, 1) : <f64>this.int();
  }

  /** The string, "" for any other value. */
  text(): string {
    if (this.tag != abi.TAG_STRING) return "";
    return utf8.decode(this.at + 5, load<u32>(this.at, 1));
  }

  /** An object, in the form in which it came; Json.NULL for any other value. */
  json(): Json {
    if (this.tag != abi.TAG_JSON) return Json.NULL;
    const size = load<u32>(this.at, 1);
    const text = new StaticArray<u8>(size);
    memory.copy(changetype<usize>(text), this.at + 5, size);
    return Json.of(text, "a value");
  }

  /** How many elements a list has, 0 for any other value. */
  get length(): i32 {
    return this.tag == abi.TAG_LIST ? load<u32>(this.at, 1) : 0;
  }

  /** The elements of a list. */
  items(): Value[] {
    const list = new Array<Value>(this.length);
    for (let i = 0, at = this.at + 5; i < list.length; i++, at = hop(at)) {
      list[i] = new Value(this.bytes, <u32>(at - changetype<usize>(this.bytes)));
    }
    return list;
  }

  /** The elements of a list of strings; what is no string is "". */
  texts(): string[] {
    const list = new Array<string>(this.length);
    for (let i = 0, at = this.at + 5; i < list.length; i++, at = hop(at)) {
      list[i] = load<u8>(at) == abi.TAG_STRING ? utf8.decode(at + 5, load<u32>(at, 1)) : "";
    }
    return list;
  }
}

/** Where the value at that place ends, 0 when it is malformed. */
function skip(at: usize, end: usize, depth: i32): usize {
  if (at >= end) return 0;
  const tag = <i32>load<u8>(at++);
  const left = end - at;
  switch (tag) {
    case abi.TAG_NULL:
    case abi.TAG_FALSE:
    case abi.TAG_TRUE:
      return at;
    case abi.TAG_INT:
    case abi.TAG_FLOAT:
      return left < 8 ? 0 : at + 8;
    case abi.TAG_STRING:
    case abi.TAG_JSON:
      return left < 4 || <usize>load<u32>(at) > left - 4 ? 0 : at + 4 + load<u32>(at);
    case abi.TAG_LIST: {
      // An element takes a byte at least, so the end bounds the count too.
      if (left < 4 || depth == abi.MAX_LIST_DEPTH) return 0;
      const count = load<u32>(at);
      at += 4;
      for (let i: u32 = 0; i < count; i++) {
        at = skip(at, end, depth + 1);
        if (!at) return 0;
      }
      return at;
    }
  }
  return 0;
}

/** Where a value that is known to be well-formed ends. */
function hop(at: usize): usize {
  return skip(at, usize.MAX_VALUE, 0);
}

/** Writes a value, for Request.set and Request.append. */
export class ValueWriter {
  private out: Bytes = new Bytes();

  /** Where the value begins, until the next write. */
  get at(): usize {
    return this.out.at;
  }

  /** Its length in bytes. */
  get size(): u32 {
    return this.out.size;
  }

  /** Begins anew. */
  clear(): ValueWriter {
    this.out.clear();
    return this;
  }

  null(): ValueWriter {
    this.out.u8(<u8>abi.TAG_NULL);
    return this;
  }

  bool(b: bool): ValueWriter {
    this.out.u8(<u8>(b ? abi.TAG_TRUE : abi.TAG_FALSE));
    return this;
  }

  int(n: i64): ValueWriter {
    this.out.u8(<u8>abi.TAG_INT);
    this.out.u64(n);
    return this;
  }

  /** Writes a number; the host refuses infinities and NaN. */
  float(n: f64): ValueWriter {
    this.out.u8(<u8>abi.TAG_FLOAT);
    this.out.u64(reinterpret<u64>(n));
    return this;
  }

  text(s: string): ValueWriter {
    this.out.u8(<u8>abi.TAG_STRING);
    const head = this.out.size;
    this.out.u32(0);
    const size = this.out.text(s);
    store<u32>(this.out.at + head, size);
    return this;
  }

  /** Writes the head of a list; that many values must follow. */
  list(count: u32): ValueWriter {
    this.out.u8(<u8>abi.TAG_LIST);
    this.out.u32(count);
    return this;
  }

  /** Writes a value that is no scalar, an object mostly, as JSON. */
  json(value: Json): ValueWriter {
    this.out.u8(<u8>abi.TAG_JSON);
    this.out.u32(value.size);
    this.out.copy(value.at, value.size);
    return this;
  }
}
