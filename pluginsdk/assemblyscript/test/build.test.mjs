import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Plugin } from "../testing/index.mjs";
import { build } from "../tools/build.mjs";
import { canonical } from "../tools/json.mjs";
import { guests } from "./guest.mjs";

const scratch = mkdtempSync(join(tmpdir(), "cleat-as-"));
after(() => rmSync(scratch, { recursive: true }));

/** A copy of the smallest guest, with parts of its files replaced. */
function changed(name, { plugin = [], manifest = [] }) {
  const directory = join(scratch, name);
  cpSync(`${guests}/minimal`, directory, { recursive: true });
  for (const [file, [from, to] = []] of [["plugin.ts", plugin], ["manifest.json", manifest]]) {
    if (from === undefined) continue;
    const text = readFileSync(join(directory, file), "utf8");
    assert.ok(text.includes(from));
    writeFileSync(join(directory, file), text.replace(from, to));
  }
  return directory;
}

test("a build is the same wherever it is made", async () => {
  const wasm = await build(`${guests}/minimal`);
  assert.deepEqual(await build(changed("same", {})), wasm);
  const module = new WebAssembly.Module(wasm);
  assert.deepEqual(WebAssembly.Module.exports(module).map((e) => e.name).sort(),
    ["_initialize", "cleat_abi_1", "cleat_admission_validate", "cleat_init", "memory"]);
  const manifest = Buffer.from(WebAssembly.Module.customSections(module, "cleat.plugin")[0]).toString();
  assert.equal(manifest, canonical(JSON.parse(readFileSync(`${guests}/minimal/manifest.json`, "utf8"))));
  assert.ok(!wasm.includes(scratch) && !wasm.includes(guests));
});

test("the example of the README", async () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const directory = changed("readme", { manifest: ['"cleat_object_v1"]', '"cleat_object_v1", "cleat_request_v1"]'] });
  writeFileSync(join(directory, "plugin.ts"), /```ts\n(.*?)```/s.exec(readme)[1]);
  const manifest = JSON.parse(readFileSync(join(directory, "manifest.json"), "utf8"));
  manifest.admission.read_paths = ["spec"];
  manifest.config_schema = { registry: { type: "string", doc: "where images come from" } };
  writeFileSync(join(directory, "manifest.json"), JSON.stringify(manifest));
  const file = join(scratch, "my-plugin.wasm");
  writeFileSync(file, await build(directory));
  const tests = join(directory, "plugin.test.mjs");
  writeFileSync(tests, /```js\n(.*?)```/s.exec(readme)[1]);
  const sdk = fileURLToPath(new URL("..", import.meta.url));
  const env = { ...process.env, SDK: sdk, NODE_TEST_CONTEXT: "" };
  const { status, stdout } = spawnSync(process.execPath, [tests], { cwd: scratch, env, encoding: "utf8" });
  assert.equal(status, 0, stdout);
});

test("a hook without a handler is an error of the plugin", async () => {
  const plugin = new Plugin(await build(`${guests}/minimal`));
  assert.throws(() => plugin.validate({ operation: "CREATE", version: "v1", resource: "pods" }),
    { errno: "ENOTSUP", message: "cleat_admission_validate: no handler is registered; call onMutate or onValidate" });
});

const marker = "export { cleat_abi_1";

for (const [name, change, want] of [
  ["a function of the browser", { plugin: [marker, `trace("x" + Math.random().toString());\n${marker}`] },
    /no host has env\.seed, which is for Math\.random: use random of cleat\/plugin/],
  ["the console", { plugin: [marker, `console.log("x");\n${marker}`] },
    /no host has env\.console\.log, which is for console: use log of cleat\/plugin/],
  ["the clock", { plugin: [marker, `if (Date.now() == 0) abort();\n${marker}`] },
    /env\.Date\.now, which is for Date\.now: use now of cleat\/plugin/],
  ["an undeclared capability", { manifest: ['"cleat_core_v1", ', ""] },
    /manifest\.json: capabilities: lacks "cleat_core_v1", which error_set needs; add it/],
  ["an unused capability", { manifest: ['"cleat_core_v1", ', '"cleat_core_v1", "cleat_kv_v1", '] },
    /manifest\.json: capabilities: "cleat_kv_v1" is not used; take it out/],
  ["a missing export", { manifest: ['"mutate": false', '"mutate": true'] },
    /does not export cleat_admission_mutate; re-export it from the SDK: export { cleat_admission_mutate } from "cleat\/admission"/],
  ["a missing marker", { plugin: ["cleat_abi_1, ", ""] }, /export { cleat_abi_1 } from "cleat\/plugin"/],
  ["a mistake", { plugin: [marker, `const n: i32 = "x";\n${marker}`] }, /ERROR TS2322.*plugin\.ts\(3,16\)/s],
  ["a malformed manifest", { manifest: ["{", ""] }, /^manifest\.json: /],
]) {
  test(`a build refuses ${name}`, async () => {
    await assert.rejects(build(changed(name, change)), { message: want });
  });
}
