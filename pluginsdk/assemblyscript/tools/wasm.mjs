// The manifest in a plugin's file: a custom section of WebAssembly.

import { manifestSection } from "./abi.mjs";

/** The file with the manifest at its end. */
export function embed(wasm, manifest) {
  if (WebAssembly.Module.customSections(new WebAssembly.Module(wasm), manifestSection).length) {
    throw new Error(`the file has a section ${manifestSection} already`);
  }
  const name = Buffer.from(manifestSection);
  const body = Buffer.concat([uleb(name.length), name, Buffer.from(manifest)]);
  return Buffer.concat([wasm, Buffer.from([0]), uleb(body.length), body]);
}

/** The manifest in a file. */
export function manifestOf(module) {
  const sections = WebAssembly.Module.customSections(module, manifestSection);
  if (sections.length !== 1) {
    throw new Error(`the file has ${sections.length} sections ${manifestSection}, want one; build it with tools/build.mjs`);
  }
  return JSON.parse(Buffer.from(sections[0]).toString());
}

/** A number as WebAssembly writes it. */
function uleb(n) {
  const bytes = [];
  do {
    bytes.push((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
    n >>>= 7;
  } while (n);
  return Buffer.from(bytes);
}
