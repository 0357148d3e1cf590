// A little of what a plugin wants to remember: at most 256 keys, which every
// server of the cluster shares. A plugin that uses it imports, and must declare,
// the capability cleat_kv_v1. It needs ABI 1.1.
//
// There is no state in onInit and at the point datastore, and the last of two
// writers at once wins. A failure is remembered like that of any host function.

import * as abi from "./abi";
import * as host from "./host";
import * as utf8 from "./utf8";

/** The value of a key, null when there is none. What the running hook has set shows. */
export function getState(key: string): StaticArray<u8> | null {
  if (host.failed()) return null;
  let n: i32;
  host.begin();
  do n = abi.kv_get(host.first(key), host.size, host.room, host.limit); while (host.again(n));
  return n != abi.ENOENT && host.checkAnswer(n, "state", key) ? host.answer(n) : null;
}

/** getState for text. */
export function getStateText(key: string): string | null {
  const bytes = getState(key);
  return bytes ? utf8.decode(changetype<usize>(bytes), bytes.length) : null;
}

/**
 * Records a value of at most 64 KiB; an empty one removes the key. The host
 * stores it once the hook has decided, and drops it when the hook fails or the
 * request is a dry run. A key has 1 to 253 bytes of UTF-8.
 */
export function setState(key: string, value: StaticArray<u8>): void {
  host.check(abi.kv_set(host.first(key), host.size, changetype<usize>(value), value.length), "set state", key);
}

/** setState for text. */
export function setStateText(key: string, value: string): void {
  setState(key, utf8.bytes(value));
}
