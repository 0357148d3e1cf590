// JSON as plan inputs, configurations and whole objects have it.

import * as scan from "./scan";
import * as utf8 from "./utf8";

/**
 * One value in a JSON text, which is checked as a whole when it is read and then
 * looked into on demand. Where there is no such value, there is Json.NULL, so
 * that a way into an object needs no checks: j.get("a").get("b").text().
 */
export class Json {
  /** null, and what is absent. */
  static readonly NULL: Json = Json.of(utf8.bytes("null"), "null");

  private constructor(
    private document: StaticArray<u8>, // keeps the bytes alive
    /** Where the value's text begins. */
    readonly at: usize,
    /** How many bytes of UTF-8 it has. */
    readonly size: u32,
  ) {}

  /**
   * Reads exactly one value; null when the text is none. It refuses what two
   * readers could take differently: a key that is there twice, malformed UTF-8,
   * more than 64 levels.
   */
  static parse(text: string): Json | null {
    return Json.decode(utf8.bytes(text));
  }

  /** parse for bytes, which must not change afterwards. */
  static decode(text: StaticArray<u8>): Json | null {
    const end = changetype<usize>(text) + text.length;
    const at = scan.space(changetype<usize>(text), end);
    const after = scan.strictly(at, end, 0);
    if (!after || scan.space(after, end) != end) return null;
    return new Json(text, at, <u32>(after - at));
  }

  /** decode for what the host wrote: it is JSON, or the plugin cannot go on. */
  static of(text: StaticArray<u8>, what: string): Json {
    const value = Json.decode(text);
    if (!value) throw new Error("the host's JSON of " + what + " is malformed");
    return value;
  }

  // @ts-ignore: decorator
  @inline
  private get head(): u8 {
    return load<u8>(this.at);
  }

  get isNull(): bool {
    return this.head == 0x6e; // n
  }

  get isBool(): bool {
    return this.head == 0x74 || this.head == 0x66; // t, f
  }

  get isText(): bool {
    return this.head == 0x22; // "
  }

  get isArray(): bool {
    return this.head == 0x5b; // [
  }

  get isObject(): bool {
    return this.head == 0x7b; // {
  }

  get isNumber(): bool {
    return this.head == 0x2d || <u8>(this.head - 0x30) < 10; // -, 0 to 9
  }

  /** Whether the value is a number that int returns exactly. */
  get isInt(): bool {
    return this.isNumber && this.whole();
  }

  /** Whether the value is true. */
  get isTrue(): bool {
    return this.head == 0x74;
  }

  /** The whole number from -2^63 to 2^63-1, written without fraction and exponent; 0 for any other value. */
  int(): i64 {
    if (!this.isInt) return 0;
    const negative = this.head == 0x2d;
    let n: u64 = 0;
    for (let at = this.at + <usize>negative, end = this.at + this.size; at < end; at++) n = n * 10 + (load<u8>(at) - 0x30);
    return negative ? -(<i64>n) : n;
  }

  /** Whether a number has neither fraction nor exponent and fits. */
  private whole(): bool {
    const negative = this.head == 0x2d;
    const most: u64 = negative ? <u64>1 << 63 : <u64>i64.MAX_VALUE;
    let n: u64 = 0;
    for (let at = this.at + <usize>negative, end = this.at + this.size; at < end; at++) {
      const digit = <u64>load<u8>(at) - 0x30;
      if (digit > 9 || n > (most - digit) / 10) return false;
      n = n * 10 + digit;
    }
    return true;
  }

  /** The number, infinite when it is out of range; 0 for any other value. */
  float(): f64 {
    return this.isNumber ? F64.parseFloat(this.toString()) : 0;
  }

  /** The string; "" for any other value. */
  text(): string {
    return this.isText ? scan.text(this.at + 1, this.at + this.size - 1) : "";
  }

  /** The string as UTF-8: two conversions less for one that is only passed on. */
  bytes(): StaticArray<u8> {
    return this.isText ? scan.bytes(this.at + 1, this.at + this.size - 1) : new StaticArray<u8>(0);
  }

  /** The value of a key of an object. */
  get(key: string): Json {
    if (!this.isObject) return Json.NULL;
    for (let at = scan.first(this.at); load<u8>(at) != 0x7d; at = scan.following(at)) {
      const colon = scan.hop(at);
      const value = scan.colonAfter(colon);
      if (scan.keyIs(at, colon, key)) return this.part(value);
      at = value;
    }
    return Json.NULL;
  }

  /** Whether an object has a key, be its value null. */
  has(key: string): bool {
    return this.get(key) != Json.NULL;
  }

  /** The keys of an object, in the order in which they stand. */
  keys(): string[] {
    const list: string[] = [];
    if (!this.isObject) return list;
    for (let at = scan.first(this.at); load<u8>(at) != 0x7d; at = scan.following(at)) {
      list.push(this.part(at).text());
      at = scan.colonAfter(scan.hop(at));
    }
    return list;
  }

  /** The elements of an array, or the values of an object in the order of keys(). */
  items(): Json[] {
    const list: Json[] = [];
    const object = this.isObject;
    if (!object && !this.isArray) return list;
    const close: u8 = object ? 0x7d : 0x5d;
    for (let at = scan.first(this.at); load<u8>(at) != close; at = scan.following(at)) {
      if (object) at = scan.colonAfter(scan.hop(at));
      list.push(this.part(at));
    }
    return list;
  }

  /** The elements of an array of strings; what is no string is "". */
  texts(): string[] {
    const list: string[] = [];
    if (!this.isArray) return list;
    for (let at = scan.first(this.at); load<u8>(at) != 0x5d; at = scan.following(at)) list.push(this.part(at).text());
    return list;
  }

  /** The JSON text, as it stands. */
  toString(): string {
    return utf8.decode(this.at, this.size);
  }

  private part(at: usize): Json {
    return new Json(this.document, at, <u32>(scan.hop(at) - at));
  }
}
