#!/usr/bin/env node
// Builds a plugin: compiles it, checks it against its manifest and embeds that.
//
//   node build.mjs [--out FILE] [DIRECTORY]
//
// The directory, by default the current one, holds plugin.ts and manifest.json.

import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import asc from "assemblyscript/asc";

import { problems } from "./check.mjs";
import { canonical } from "./json.mjs";
import { embed } from "./wasm.mjs";

const library = join(dirname(fileURLToPath(import.meta.url)), "..", "assembly");

/** The bytes of the plugin in a directory. An error is for its author. */
export async function build(directory) {
  const text = readFileSync(join(directory, "manifest.json"), "utf8");
  let manifest;
  try {
    manifest = JSON.parse(text);
  } catch (cause) {
    throw new Error(`manifest.json: ${cause.message}`, { cause });
  }
  const wasm = await compile(directory);
  const found = problems(new WebAssembly.Module(wasm), manifest);
  if (found.length) throw new Error(found.join("\n"));
  return embed(wasm, canonical(manifest));
}

async function compile(directory) {
  let wasm;
  const said = [];
  const write = (text) => said.push(text);
  const { error } = await asc.main([
    "plugin.ts",
    "--baseDir", directory,
    "--lib", library,
    "--outFile", "plugin.wasm",
    // The host calls _initialize; it refuses a start section.
    "--exportStart", "_initialize",
    // Garbage is collected between hooks, by the SDK.
    "--runtime", "minimal",
    "--noColors",
    "--optimizeLevel", "3", "--shrinkLevel", "1",
  ], {
    stdout: { write }, stderr: { write },
    writeFile: (name, contents) => { if (name === "plugin.wasm") wasm = contents; },
  });
  if (error) throw new Error(`${said.join("").trimEnd()}\nplugin.ts: ${error.message}`);
  process.stderr.write(said.join(""));
  return wasm;
}

/** Writes a file so that a reader sees the old or the new one. */
function replace(file, bytes) {
  mkdirSync(dirname(file), { recursive: true });
  const fresh = `${file}.${process.pid}.new`;
  try {
    writeFileSync(fresh, bytes);
    renameSync(fresh, file);
  } finally {
    rmSync(fresh, { force: true });
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    options: { out: { type: "string", default: "plugin.wasm" } }, allowPositionals: true,
  });
  if (positionals.length > 1) throw new Error(`one directory, not ${positionals.length}`);
  replace(resolve(values.out), await build(resolve(positionals[0] ?? ".")));
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    console.error(`build: ${error.message}`);
    process.exitCode = 1;
  });
}
