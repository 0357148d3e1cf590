// The guest's memory, as the host reads and writes it.

import { errnos } from "../tools/abi.mjs";

export class Memory {
  #memory;

  /** Takes the memory the guest exports. */
  attach(memory) {
    this.#memory = memory;
  }

  /** How many bytes the guest has. */
  get size() {
    return this.#memory.buffer.byteLength;
  }

  /** A copy of guest bytes; throws EINVAL outside of its memory. */
  read(at, size) {
    return this.#view(at, size).slice();
  }

  /** Guest bytes as text, cut to most bytes. What is no UTF-8 becomes U+FFFD. */
  text(at, size, most = Infinity) {
    let bytes = this.read(at, size);
    if (bytes.length > most) {
      let end = most;
      while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--;
      bytes = bytes.subarray(0, end);
    }
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  }

  /** Writes an answer if it fits, and returns its length. */
  fill(at, limit, answer) {
    const bytes = typeof answer === "string" ? Buffer.from(answer) : answer;
    if (bytes.length <= limit >>> 0) this.#view(at, bytes.length).set(bytes);
    return bytes.length;
  }

  /** A string of AssemblyScript, as abort is given. */
  utf16(at) {
    if (!at) return "";
    const size = new DataView(this.#memory.buffer).getUint32((at >>> 0) - 4, true);
    return Buffer.from(this.read(at, size)).toString("utf16le");
  }

  #view(at, size) {
    if ((at >>> 0) + (size >>> 0) > this.size) throw new Errno("EINVAL");
    return new Uint8Array(this.#memory.buffer, at >>> 0, size >>> 0);
  }
}

/** What a host function throws to answer with an error number. */
export class Errno extends Error {
  /** words become the error text of the hook, if given. */
  constructor(name, words = "") {
    super(words || name);
    this.number = errnos[name];
    this.words = words;
  }
}
