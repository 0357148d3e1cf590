// What every plugin uses: start, configuration, failure, log, time.

import * as abi from "./abi";
import * as host from "./host";
import { Json } from "./json";

let starts: (() => void)[] = [];

/**
 * Adds a function that runs once in each instance, before any hook. If it calls
 * fail, the plugin does not start.
 */
export function onInit(start: () => void): void {
  starts.push(start);
}

/** Marks the ABI. A plugin exports it. */
export function cleat_abi_1(): void {}

/** Starts an instance. A plugin exports it. */
export function cleat_init(): i32 {
  for (let i = 0; i < starts.length && !host.failed(); i++) starts[i]();
  return host.outcomeOfPlan(0);
}

/**
 * Ends the hook as an error of the plugin, whatever it decides afterwards. The
 * text reaches the operator: field, value and the way out. The first call counts.
 */
export function fail(text: string): void {
  host.failure(abi.EINVAL, text);
}

/** Reports whether the hook has failed: by fail, or because a host function did. */
export function failed(): bool {
  return host.failed();
}

/**
 * Takes the failure of a host function back, if it has this number: forgive(EIO)
 * after a lookup, for a plugin that can decide without.
 * @returns whether that was the failure
 */
export function forgive(errno: i32): bool {
  return host.forgive(errno);
}

/** The configuration; a plugin whose manifest has a schema finds every key that has a default. */
export function config(): Json {
  let n: i32;
  host.begin();
  do n = abi.config_get(host.room, host.limit); while (host.again(n));
  if (!host.checkAnswer(n, "read the configuration")) return Json.NULL;
  return Json.of(host.answer(n), "the configuration");
}

/** Writes one line to the host's log; level is LOG_DEBUG, LOG_INFO, LOG_WARN or LOG_ERROR. */
export function log(level: i32, text: string): void {
  abi.log(level, host.first(text), host.size);
}

/**
 * The time at which the hook was entered, in nanoseconds since 1970 UTC. It
 * needs ABI 1.1.
 */
export function now(): i64 {
  return abi.now();
}

/** That many random bytes. It needs ABI 1.1. */
export function random(size: i32): StaticArray<u8> {
  const bytes = new StaticArray<u8>(size);
  for (let done = 0; done < size; ) {
    const part = min(size - done, <i32>abi.LIMIT_RANDOM);
    if (!host.check(abi.random(changetype<usize>(bytes) + done, part), "random bytes")) break;
    done += part;
  }
  return bytes;
}
