// Runs the plugin as built: SDK and PLUGIN say where it and the SDK are.

import assert from "node:assert/strict";
import { test } from "node:test";

const { load } = await import(`${process.env.SDK}/testing/index.mjs`);
const { outcome, readCases } = await import(`${process.env.SDK}/testing/cases.mjs`);

const plugin = load(process.env.PLUGIN);
const render = (file, content) => plugin.render({ file, addon: "a", content, variables: {}, kind: "file" });

test("deploys the documents in order", () => {
  assert.deepEqual(render("a.golden.yaml", "a: 1\n---\n# nothing\n---\nb: 2\n"), { objects: [{ a: 1 }, { b: 2 }] });
});

test("leaves other files to others", () => {
  assert.equal(render("a.yaml", "a: 1\n"), undefined);
});

test("warns of a file without objects", () => {
  assert.deepEqual(render("a.golden.yaml", ""), { objects: [], warnings: ["a.golden.yaml: has no objects"] });
});

test("keeps the host's words about malformed YAML", () => {
  assert.throws(() => render("a.golden.yaml", "a: 1\n---\na: [\n"), { errno: "EINVAL", message: /document 2: / });
});

for (const c of readCases(new URL("../../cases/golden-deployer.json", import.meta.url))) {
  test(`case: ${c.name}`, () => {
    const got = outcome(process.env.PLUGIN, c);
    // How malformed YAML is described is the host's business.
    if (c.want.answer === "fault") assert.equal(got.answer, "fault");
    else assert.deepEqual(got, c.want);
  });
}
