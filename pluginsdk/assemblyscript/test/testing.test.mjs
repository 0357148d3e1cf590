// The host of the tests is tested itself where the guests do not reach.

import assert from "node:assert/strict";
import { test } from "node:test";
import { matchingRules, parseSelector } from "../testing/match.mjs";
import { apply, covers, parsePath, valueAt } from "../testing/path.mjs";
import { canonical } from "../tools/json.mjs";

test("field paths", () => {
  for (const [text, want] of [
    ["spec.containers[*].image"], ["metadata.labels['a.b/c']"], ["['a']", "a"], ["a['b-c']", "a.b-c"],
    ["a['it\\'s \\\\']"], ["a[*][*]"],
  ]) {
    assert.equal(parsePath(text).text, want ?? text);
  }
  for (const text of ["", ".a", "a.", "a..b", "[*]", "a[*", "a[0]", "a['']", "a['b", "a b", "a['\\x']", "a[*]b", "a".repeat(1025), "a.".repeat(32) + "a"]) {
    assert.throws(() => parsePath(text), SyntaxError, text);
  }
  assert.ok(covers(parsePath("a.b"), parsePath("a['b'].c")));
  assert.ok(!covers(parsePath("a.b"), parsePath("a")));
  assert.ok(!covers(parsePath("a[*]"), parsePath("a['[*]']")));
});

test("values at paths", () => {
  const object = { a: [{ b: 1 }, {}, "x", { b: [2] }], c: { d: null } };
  assert.deepEqual(valueAt(object, parsePath("a[*].b")), [1, null, null, [2]]);
  assert.deepEqual(valueAt(object, parsePath("c[*]")), []);
  assert.equal(valueAt(object, parsePath("c.d.e")), null);
  assert.equal(valueAt(object, parsePath("c.constructor")), null);
});

test("mutations keep positions", () => {
  const object = { a: [1, 2, 3] };
  const m = (op, path, index, value) => ({ op, path, index, value });
  assert.deepEqual(apply(object, [m("remove", "a[*]", 0), m("set", "a[*]", 2, 9), m("remove", "a[*]", 0), m("append", "a", -1, 4)]), { a: [2, 9, 4] });
  assert.deepEqual(apply(object, [m("set", "x.y['z']", -1, 1), m("remove", "q.r", -1)]), { a: [1, 2, 3], x: { y: { z: 1 } } });
  assert.throws(() => apply(object, [m("remove", "a[*]", 0), m("set", "a[*]", 0, 1)]), /no such element any more/);
  assert.throws(() => apply(object, [m("set", "a.b", -1, 1)]), /no map/);
  assert.throws(() => apply(object, [m("append", "x", -1, 1), m("set", "x.y", -1, 1)]), /no map/);
  assert.deepEqual(object, { a: [1, 2, 3] });
});

test("rules", () => {
  const rule = { operations: ["CREATE"], api_groups: [""], api_versions: ["*"], resources: ["pods", "pods/exec"] };
  const selector = { match_labels: { a: "b" }, match_expressions: [{ key: "c", operator: "NotIn", values: ["d"] }] };
  const rules = [rule, { ...rule, resources: ["*/*"] }, { ...rule, namespace_selector: selector }];
  const of = (more) => matchingRules(rules, { operation: "CREATE", version: "v1", resource: "pods", ...more });
  assert.equal(of({}), 3n);
  assert.equal(of({ subresource: "exec", namespace_labels: { a: "b" } }), 7n);
  assert.equal(of({ subresource: "log" }), 2n);
  assert.equal(of({ namespace_labels: { a: "b", c: "d" } }), 3n);
  assert.equal(of({ operation: "UPDATE" }), 0n);
  assert.equal(of({ group: "apps" }), 0n);
});

test("label selectors", () => {
  const labels = { tier: "gold", "a.b/c": "1" };
  for (const [text, want] of [
    ["", true], ["tier=gold", true], ["tier==iron", false], ["tier!=iron", true], ["none!=x", true], ["tier", true], ["!tier", false],
    ["tier in (iron, gold),a.b/c=1", true], ["tier notin (gold)", false], ["none in (a)", false],
  ]) {
    assert.equal(parseSelector(text)(labels), want, text);
  }
  assert.throws(() => parseSelector("a=b=c"), SyntaxError);
});

test("canonical JSON", () => {
  assert.equal(canonical({ b: [1, 2n ** 60n, 1.5], a: { "\u{1f40b}": "\u2028<\u0001", "\uffff": undefined, "\ufffe": null } }),
    '{"a":{"\ufffe":null,"\u{1f40b}":"\\u2028<\\u0001"},"b":[1,1152921504606846976,1.5]}');
  assert.throws(() => canonical(NaN), TypeError);
});
