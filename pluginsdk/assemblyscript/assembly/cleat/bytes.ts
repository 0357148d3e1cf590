// A growing block of bytes.

import * as utf8 from "./utf8";

export class Bytes {
  private block: StaticArray<u8> = new StaticArray<u8>(256);

  /** How many bytes there are. */
  size: u32 = 0;

  /** Where they begin, until the next write. */
  get at(): usize {
    return changetype<usize>(this.block);
  }

  /** Forgets all bytes, and a block that has become large. */
  clear(): void {
    this.size = 0;
    if (this.block.length > 1 << 16) this.block = new StaticArray<u8>(256);
  }

  /** Makes room for that many bytes more, and returns where they go; size is the caller's to raise. */
  reserve(more: u64): usize {
    const need = <u64>this.size + more;
    if (need > <u64>this.block.length) {
      if (need > 1 << 30) throw new Error("more than 1 GiB of output");
      // As the standard library's arrays grow: without leaving the old block to the collector.
      const room = max(need, min(2 * <u64>this.block.length, need + (1 << 20)));
      this.block = changetype<StaticArray<u8>>(__renew(changetype<usize>(this.block), <usize>room));
    }
    return this.at + this.size;
  }

  u8(n: u8): void {
    store<u8>(this.reserve(1), n);
    this.size++;
  }

  u32(n: u32): void {
    store<u32>(this.reserve(4), n);
    this.size += 4;
  }

  u64(n: u64): void {
    store<u64>(this.reserve(8), n);
    this.size += 8;
  }

  /** Copies bytes from memory. */
  copy(from: usize, count: u32): void {
    memory.copy(this.reserve(count), from, count);
    this.size += count;
  }

  /** Writes text as UTF-8 and returns its length in bytes. */
  text(s: string): u32 {
    const most = 3 * <u64>s.length;
    const at = this.reserve(this.size + most > <u64>this.block.length ? utf8.length(s) : most);
    const n = utf8.encode(s, at);
    this.size += n;
    return n;
  }
}
