// The guests of these tests, built when they are asked for.

import { fileURLToPath } from "node:url";
import { Plugin } from "../testing/index.mjs";
import { build } from "../tools/build.mjs";

export const guests = fileURLToPath(new URL("guests", import.meta.url));

/** Builds a guest, and returns what starts it. */
export async function guest(name) {
  const wasm = await build(`${guests}/${name}`);
  return (options) => new Plugin(wasm, options);
}

/** Numbers from 0 up to but not including n, the same in every run. */
export function chance(seed) {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}
