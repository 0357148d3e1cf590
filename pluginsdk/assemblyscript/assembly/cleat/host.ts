// What every part of the SDK uses to call the host: memory for arguments and
// answers, and the first failure of a hook.
//
// Garbage is collected between hooks only, never while one runs. So an address
// stays good until the hook returns, whoever refers to it.

import * as abi from "./abi";
import * as utf8 from "./utf8";

// Arguments and answers up to this size need no memory of their own.
// @ts-ignore: decorator
@inline const ROOM: u32 = 4096;

const arguments_ = memory.data(4096);
const answers = memory.data(4096);

// Arguments: abi.audit(handle, first(key), size, next(value), size).

let used: u32 = 0;

/** The length in bytes of the text that was placed last. */
export let size: u32 = 0;

/** Places the first text of a host call as UTF-8, and returns its address. */
export function first(text: string): usize {
  used = 0;
  return next(text);
}

/** Places another text for the same call. */
export function next(text: string): usize {
  // A UTF-16 unit takes at most three bytes.
  if (<u64>used + 3 * <u64>text.length <= ROOM) {
    const at = arguments_ + used;
    size = utf8.encode(text, at);
    used += size;
    return at;
  }
  const own = utf8.bytes(text);
  size = own.length;
  return changetype<usize>(own);
}

// Answers: begin(); do n = abi.kv_get(..., room, limit); while (again(n)).

/** Where the host is to write its answer. */
export let room: usize = 0;
/** How much of it fits there, in bytes. */
export let limit: u32 = 0;

let large: StaticArray<u8> | null = null;
let calls: i32 = 0;

/** Makes room for an answer. */
export function begin(): void {
  room = answers;
  limit = ROOM;
  large = null;
  calls = 1;
}

/** Reports whether the answer did not fit and the host must be called again, with more room. */
export function again(n: i32): bool {
  // The length may change between two calls only if the host is broken.
  if (n < 0 || <u32>n <= limit || calls == 3) return false;
  const own = new StaticArray<u8>(n);
  large = own;
  room = changetype<usize>(own);
  limit = n;
  calls++;
  return true;
}

/** The answer of n bytes, in memory of its own. */
export function answer(n: i32): StaticArray<u8> {
  const own = large;
  if (own && own.length == n) return own;
  const bytes = new StaticArray<u8>(n);
  memory.copy(changetype<usize>(bytes), room, n);
  return bytes;
}

/** The answer of n bytes, as text. */
export function answerText(n: i32): string {
  return utf8.decode(room, n);
}

// The first failure turns the hook into a plugin error.

let errno: i32 = 0;
let why: string = "";

/** Reports whether the hook has failed. What is read from then on is absent or empty. */
export function failed(): bool {
  return errno < 0;
}

/** Remembers the first failure; without words, those the host has stand. */
export function failure(number: i32, words: string): void {
  if (errno < 0) return;
  errno = number;
  why = words;
}

/** Remembers a host call that failed, and reports whether it did not. */
export function check(n: i32, what: string, detail: string = ""): bool {
  if (n >= 0) return true;
  if (errno < 0) return false; // spares the text
  failure(n, (detail.length ? what + " " + detail : what) + ": " + abi.errnoText(n));
  return false;
}

/** check for an answer: it must also have fitted. */
export function checkAnswer(n: i32, what: string, detail: string = ""): bool {
  return check(n > 0 && <u32>n > limit ? abi.EIO : n, what, detail);
}

/** Forgets the failure if it has that number, and reports whether it had. */
export function forgive(number: i32): bool {
  if (errno != number || number >= 0) return false;
  errno = 0;
  return true;
}

// Each hook leaves some kilobytes at most, so there is no hurry.
// @ts-ignore: decorator
@inline const HOOKS_PER_COLLECTION: u32 = 16;

let hooks: u32 = 0;

/** Ends a hook: the result for the host is an errno if something failed. */
export function outcome(result: i32): i32 {
  if (errno < 0) {
    result = errno;
    if (why.length) abi.error_set(first(why), size);
    errno = 0;
    why = "";
  }
  large = null;
  if (++hooks % HOOKS_PER_COLLECTION == 0) __collect();
  return result;
}

/** outcome for a hook that may leave a lot: its garbage is collected at once. */
export function outcomeOfPlan(result: i32): i32 {
  result = outcome(result);
  __collect();
  return result;
}
