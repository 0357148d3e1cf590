// JSON as a plan or a mutation has it.

import { MAX_JSON_DEPTH } from "./abi";
import { Bytes } from "./bytes";
import { Json } from "./json";

// What is open, and what may come next.
// @ts-ignore: decorator
@inline const ARRAY: u8 = 1;
// @ts-ignore: decorator
@inline const OBJECT: u8 = 2;

/**
 * Writes one JSON value: w.object().key("list").array().int(1).end().end(). What
 * would be no JSON is a mistake of the plugin and ends the call as a fault.
 */
export class JsonWriter {
  private out: Bytes = new Bytes();
  private open: StaticArray<u8> = new StaticArray<u8>(MAX_JSON_DEPTH);
  private depth: i32 = 0;
  private comma: bool = false; // a value stands before
  private keyed: bool = false; // a key waits for its value

  /** Where the text begins, until the next write. */
  get at(): usize {
    return this.out.at;
  }

  /** How many bytes of UTF-8 it has. */
  get size(): u32 {
    return this.out.size;
  }

  /** Opens an object. */
  object(): JsonWriter {
    return this.begin(0x7b, OBJECT);
  }

  /** Opens an array. */
  array(): JsonWriter {
    return this.begin(0x5b, ARRAY);
  }

  private begin(bracket: u8, kind: u8): JsonWriter {
    this.value();
    if (this.depth == MAX_JSON_DEPTH) throw new Error("JSON nested deeper than 64");
    this.open[this.depth++] = kind;
    this.out.u8(bracket);
    this.comma = false;
    return this;
  }

  /** Closes the array or object that was opened last. */
  end(): JsonWriter {
    if (!this.depth || this.keyed) throw new Error("JSON: nothing to end here");
    this.out.u8(this.open[--this.depth] == OBJECT ? 0x7d : 0x5d);
    this.comma = true;
    return this;
  }

  /** Writes the key of the next value. No key may come twice. */
  key(name: string): JsonWriter {
    if (!this.depth || this.open[this.depth - 1] != OBJECT || this.keyed) throw new Error("JSON: no place for a key");
    if (this.comma) this.out.u8(0x2c);
    this.string(name);
    this.out.u8(0x3a);
    this.keyed = true;
    return this;
  }

  text(s: string): JsonWriter {
    this.value();
    this.string(s);
    return this;
  }

  int(n: i64): JsonWriter {
    return this.plain(n.toString());
  }

  /** Writes a number, which must be finite. */
  float(n: f64): JsonWriter {
    if (!isFinite(n)) throw new Error("JSON: " + n.toString() + " is no number");
    return this.plain(n.toString());
  }

  bool(b: bool): JsonWriter {
    return this.plain(b ? "true" : "false");
  }

  null(): JsonWriter {
    return this.plain("null");
  }

  /** Writes a value that was read, as it stands. */
  json(value: Json): JsonWriter {
    this.value();
    this.out.copy(value.at, value.size);
    return this;
  }

  private plain(text: string): JsonWriter {
    this.value();
    this.out.text(text);
    return this;
  }

  /** Makes way for a value. */
  private value(): void {
    if (this.depth ? this.open[this.depth - 1] == OBJECT && !this.keyed : this.comma) {
      throw new Error(this.depth ? "JSON: a value without a key" : "JSON: a second value");
    }
    if (this.comma && !this.keyed) this.out.u8(0x2c);
    this.comma = true;
    this.keyed = false;
  }

  private string(s: string): void {
    this.out.u8(0x22);
    const length = s.length;
    let begin = 0;
    for (let i = 0; i < length; i++) {
      const c = s.charCodeAt(i);
      if (c >= 0x20 && c != 0x22 && c != 0x5c) continue;
      if (i > begin) this.out.text(s.substring(begin, i));
      this.escape(c);
      begin = i + 1;
    }
    if (length > begin) this.out.text(begin ? s.substring(begin) : s);
    this.out.u8(0x22);
  }

  private escape(c: i32): void {
    this.out.u8(0x5c);
    switch (c) {
      case 0x22: case 0x5c: this.out.u8(<u8>c); return;
      case 0x0a: this.out.u8(0x6e); return;
      case 0x0d: this.out.u8(0x72); return;
      case 0x09: this.out.u8(0x74); return;
    }
    this.out.text("u00" + (c < 0x10 ? "0" : "1"));
    this.out.u8(<u8>((c & 15) < 10 ? 0x30 + (c & 15) : 0x57 + (c & 15)));
  }

  /** The value as it can be read, once everything is ended. */
  toJson(): Json {
    this.check();
    const text = new StaticArray<u8>(this.size);
    memory.copy(changetype<usize>(text), this.at, this.size);
    const value = Json.decode(text);
    if (!value) throw new Error("JSON: a key that is there twice");
    return value;
  }

  /** Refuses a value that is not ended. */
  check(): void {
    if (this.depth || !this.size) throw new Error("JSON: the value has no end");
  }
}
