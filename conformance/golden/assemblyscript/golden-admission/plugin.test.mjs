// Runs the plugin as built: SDK and PLUGIN say where it and the SDK are.

import assert from "node:assert/strict";
import { test } from "node:test";

const { load } = await import(`${process.env.SDK}/testing/index.mjs`);
const { outcome, readCases } = await import(`${process.env.SDK}/testing/cases.mjs`);

const start = (config) => load(process.env.PLUGIN, { config });

const pod = (spec, labels) => ({
  operation: "CREATE", version: "v1", kind: "Pod", resource: "pods", namespace: "default", name: "web",
  object: { apiVersion: "v1", kind: "Pod", metadata: { name: "web", labels }, spec },
});

test("allows an image from the registry", () => {
  const verdict = start().validate(pod({ containers: [{ image: "registry.local/app:1.0" }] }, { team: "red" }));
  assert.equal(verdict.allowed, true);
  assert.deepEqual(verdict.audit, { images: "1" });
  assert.deepEqual(verdict.warnings, []);
});

test("denies the first image that is wrong", () => {
  const verdict = start().validate(pod({
    containers: [{ image: "docker.io/app:1.0" }],
    initContainers: [{ image: "registry.local/app:1.0" }, { image: "registry.local/app:latest" }],
  }));
  assert.equal(verdict.code, 403);
  assert.equal(verdict.message, 'spec.initContainers[1].image: "registry.local/app:latest" is tagged latest; name a version');
});

test("warns of a pod without the label", () => {
  const verdict = start({ team_label: "owner" }).validate(pod({ containers: [] }, { team: "red" }));
  assert.deepEqual(verdict.warnings, ['metadata.labels: has no label "owner"; add one']);
});

test("marks the pod", () => {
  assert.deepEqual(start().mutate(pod({}, { team: "red" })).object.metadata.labels,
    { team: "red", "golden.cleat.dev/checked": "true" });
});

test("wants a registry", () => {
  assert.throws(() => start({ registries: [] }), { message: "cleat_init: registries: is empty; name at least one registry" });
});

for (const c of readCases(new URL("../../cases/golden-admission.json", import.meta.url))) {
  test(`case: ${c.name}`, () => assert.deepEqual(outcome(process.env.PLUGIN, c), c.want));
}
