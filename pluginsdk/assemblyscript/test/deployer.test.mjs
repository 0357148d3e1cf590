import assert from "node:assert/strict";
import { test } from "node:test";
import { chance, guest } from "./guest.mjs";

const start = await guest("deployer");
const plugin = start();

const ask = (file, content = "") => plugin.render({ file, content });

test("plans", () => {
  assert.deepEqual(plugin.network({ node: { mtu: 1500 } }), { driver: "none", mtu: 1450 });
  assert.deepEqual(plugin.datastore({ endpoint: "test://x" }), { driver: "etcd" });
  assert.equal(plugin.datastore({ endpoint: "sqlite://" }), undefined);
  assert.equal(ask("other"), undefined);
  assert.throws(() => ask("fail"), { errno: "EINVAL", message: "cleat_deployer_render: content: is wrong; correct it" });
});

test("rendering", () => {
  assert.deepEqual(ask("yaml", "a: [1, yes]\n---\n---\nb: 2001-01-01\n"), [{ a: [1, true] }, null, { b: "2001-01-01" }]);
  assert.throws(() => ask("yaml", "a: b\n---\na: [\n"), { errno: "EINVAL", message: /^cleat_deployer_render: document 2: / });
  assert.throws(() => ask("yaml", "a: 1\na: 2\n"), { errno: "EINVAL", message: /unique/ });
  assert.throws(() => ask("helm"), { errno: "ENOTSUP", message: "cleat_deployer_render: not supported here (ENOTSUP)" });
  const rendering = start({
    renderHelm: (request, input) => ({ name: request.release, version: input.file }),
    renderKustomize: () => { throw new Error("no such base"); },
  });
  assert.deepEqual(rendering.render({ file: "helm" }), { name: "r", version: "helm" });
  assert.throws(() => rendering.render({ file: "kustomize" }), { errno: "EINVAL", message: "cleat_deployer_render: no such base" });
});

// What would be no JSON is a crash.
for (const [name, want] of [
  ["open", "the value has no end"], ["keyless", "a value without a key"], ["two", "a second value"],
  ["unopened", "nothing to end here"], ["deep", "nested deeper than 64"], ["nan", "NaN is no number"],
]) {
  test(`a writer that is misused: ${name}`, () => {
    assert.throws(() => ask(name), (error) => error.message.includes(`abort: JSON`) && error.message.includes(want));
  });
}

/** Reads text as the guest must: JSON, no key twice, at most 64 deep; undefined when it is not. */
function reference(text) {
  const stack = [];
  // Strings and brackets are all that matters once JSON.parse has agreed.
  try {
    const value = JSON.parse(text);
    for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[[\]{}]/gs)) {
      if (token === "[" || token === "{") {
        if (stack.push(new Set()) > 64) return undefined;
      } else if (token === "]" || token === "}") {
        stack.pop();
      } else if (token.endsWith(":")) {
        const key = wellFormed(JSON.parse(token.slice(0, -1)));
        if (stack.at(-1).has(key)) return undefined;
        stack.at(-1).add(key);
      }
    }
    return value;
  } catch {
    return undefined;
  }
}

/** The value as a guest has it: half a surrogate pair is U+FFFD, and zero has no sign. */
function wellFormed(value) {
  if (value === 0) return 0;
  if (typeof value === "string") return Buffer.from(value).toString();
  if (Array.isArray(value)) return value.map(wellFormed);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [wellFormed(key), wellFormed(v)]));
}

function numbers(value) {
  if (typeof value === "number") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(numbers) : [];
}

function check(text) {
  const want = reference(text);
  const copy = ask("copy", text);
  assert.deepEqual(copy, want === undefined ? null : { value: want }, text);
  // A number out of range is infinite, which cannot be written.
  if (want !== undefined && isFinite(Math.max(0, ...numbers(want).map(Math.abs)))) {
    assert.deepEqual(ask("tree", text), wellFormed(want), text);
  }
  return want !== undefined;
}

const good = [
  "null", " true ", "false", "0", "-0", "12", "-9007199254740991", "1.5", "-1.25e-3", "1E5", '""', "[]", "{}", " [ 1 , 2 ] ",
  '"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e4\\u65e5\\ud83d\\udc0b"', '"\\ud83d"', '"\\udc0b\\ud83d x"', '"\\ud83d\\ud83d\\udc0b"',
  '"gr\u00fc\u00df \u65e5 \u{1f40b} \u007f\u2028"', '{"a":1,"b":{"c":[null,{"d":"e"}]},"z":-1}', '{"z":1,"a":2,"m":{}}',
  '{"":1,"a\\nb":2,"\\u0061":3,"\u00e4":4}', '{"a":{"a":{"a":1}}}', `${"[".repeat(64)}${"]".repeat(64)}`, '{ "a" : [ ] , "b" : { } }',
];

const bad = [
  "", " ", "nul", "nulll", "tru", "truex", "01", "-", "-a", "1.", ".5", "1e", "1e+", "+1", "0x1", '"', '"\\', '"\\x"', '"\\u12', '"\\u12g4"',
  '"\n"', '"\t"', "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "]", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', "{1:2}", "{a:1}",
  '{"a" 1}', '{"a":1 "b":2}', '{"a":1}{}', "1 2", "'a'", '{"a":1,"a":2}', '{"a":1,"b":2,"a":3}', '{"b":1,"a":2,"b":3}', '{"a":1,"\\u0061":2}',
  '{"x":{"b":1,"a":2,"a":3}}', `${"[".repeat(65)}${"]".repeat(65)}`, "[1}", "{]", "NaN", "Infinity", "undefined", "/**/1",
];

test("JSON", () => {
  for (const text of good) assert.ok(check(text), text);
  for (const text of bad) assert.ok(!check(text), text);
});

test("integers keep all digits", () => {
  const texts = ["9223372036854775807", "-9223372036854775808", "9007199254740993"];
  const wide = start();
  for (const text of texts) {
    assert.equal(raw(wide, "tree", text), text);
  }
  // One more is a number like any other.
  assert.equal(Number(raw(wide, "tree", "9223372036854775808")), 2 ** 63);
});

/** The plan as text, before JavaScript rounds its numbers. */
function raw(of, file, content) {
  const parse = JSON.parse;
  try {
    JSON.parse = (text) => text;
    return of.render({ file, content });
  } finally {
    JSON.parse = parse;
  }
}

test("JSON, with garbage", () => {
  const next = chance(2);
  const pieces = ['"', "\\", "{", "}", "[", "]", ":", ",", "1", "0", "-", ".", "e", "a", "null", "true", " ", "\\u00", "\u00e4", "\ud83d", '"a"', '"b":'];
  let fine = 0;
  for (let i = 0; i < 5000; i++) {
    let text = good[next(good.length)];
    for (let n = next(4); n > 0; n--) {
      const at = next(text.length + 1);
      text = text.slice(0, at) + pieces[next(pieces.length)] + text.slice(at + next(3));
    }
    if (check(Buffer.from(text).toString())) fine++;
  }
  assert.ok(fine > 300, `${fine} texts were JSON`);
});

test("numbers are read as they are written", () => {
  const next = chance(3);
  for (let i = 0; i < 5000; i++) {
    const digits = String(next(1e9)) + (next(2) ? "." + next(1e9) : "") + (next(2) ? "e" + (next(60) - 30) : "");
    const text = String(Number(digits));
    assert.equal(ask("tree", text), Number(text), text);
  }
});

test("text of every length and width", () => {
  for (let length = 0; length < 300; length++) {
    const text = Array.from({ length }, (_, i) => ["a", '"', "\u00e4", "\u65e5", "\u{1f40b}", "\u0001", "\n"][(i * 7 + length) % 7]).join("");
    assert.equal(ask("tree", JSON.stringify(text)), text);
  }
});

test("memory goes back after large inputs", () => {
  const large = start();
  const content = JSON.stringify(Array.from({ length: 40_000 }, (_, i) => ({ a: `text ${i}`, b: [i, null, true] })));
  const sizes = [];
  for (let i = 0; i < 12; i++) {
    assert.equal(large.render({ file: "tree", content }).length, 40_000);
    if (i >= 1) sizes.push(large.memoryBytes);
  }
  assert.equal(sizes.at(-1), sizes[0]);
});
