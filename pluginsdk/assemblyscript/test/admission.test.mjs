import assert from "node:assert/strict";
import { test } from "node:test";
import { PluginError } from "../testing/index.mjs";
import { decode, encode } from "../testing/value.mjs";
import { chance, guest } from "./guest.mjs";

const start = await guest("admission");

const object = {
  metadata: { labels: { a: "b" }, annotations: { "a.b/c": "d" }, name: "n" },
  spec: {
    replicas: 3,
    containers: [{ image: "a:1", ports: [{ hostPort: 80 }, {}] }, { ports: [{ hostPort: 81 }] }, { image: "c:1" }],
  },
};

const request = (name, more) => ({
  operation: "UPDATE", group: "g", version: "v1", kind: "K", resource: "rs", namespace: "ns", name, user: "u", id: "id-1",
  namespace_labels: { l: "v" }, object, old_object: { old: true }, ...more,
});

const only = (any, more) => request("read", { object: { spec: { any } }, ...more });

test("request fields, rules and namespace labels", () => {
  const { audit } = start().validate(request("fields", { user_uid: "uid", dry_run: true }));
  assert.equal(audit.request, "UPDATE|g|v1|K|rs||ns|fields|u|uid|id-1|dry||1|||v|none");
  const other = start().validate(request("fields", { operation: "DELETE" }));
  assert.equal(other.audit.request, "DELETE|g|v1|K|rs||ns|fields|u||id-1|wet|0|1|||v|none");
});

test("values of every type", () => {
  const plugin = start();
  for (const [value, want] of [
    [undefined, "null"], [false, "false"], [true, "true"], [0, "i0"], [-7, "i-7"], [1.5, "f1.5"],
    [9223372036854775807n, "i9223372036854775807"], [-9223372036854775808n, "i-9223372036854775808"],
    ["", '""'], ["gr\u00fc\u00df \u65e5 \u{1f40b}", '"gr\u00fc\u00df \u65e5 \u{1f40b}"'], ["x".repeat(4000), `"${"x".repeat(4000)}"`],
    [[], "[]"], [[1, ["a", null], true], '[i1,["a",null],true]'], [{ b: [1], a: { c: "\u2028" } }, '{"a":{"c":"\\u2028"},"b":[1]}'],
  ]) {
    assert.deepEqual(plugin.validate(only(value)).warnings, [want]);
  }
});

test("lists line up, and absent ones are empty", () => {
  assert.deepEqual(start().validate(request("list")).warnings, ["a:1||c:1 3"]);
  assert.deepEqual(start().validate(request("list", { object: {} })).warnings, ["0"]);
});

test("values over the size of the buffer", () => {
  const plugin = start();
  for (const size of [4000, 4090, 4091, 4092, 4096, 5000, 70000, 1 << 20 - 6]) {
    const text = "\u00e4".repeat(size / 2);
    const { object: changed } = plugin.mutate(request("text", { object: { spec: { any: text } } }));
    assert.equal(changed.spec.any, text);
  }
  assert.throws(() => plugin.validate(only("x".repeat(1 << 20))), { message: /get spec.any: over a limit \(E2BIG\)/ });
});

test("what a guest keeps outlives the hook", () => {
  const plugin = start();
  let want = "";
  for (let i = 0; i < 100; i++) {
    const image = `image-${i}-${"x".repeat(i % 7)}`;
    if (i < 64) want += `${image}|`;
    const { audit } = plugin.validate(request("keep", { object: { spec: { containers: [{ image }] } } }));
    assert.equal(audit.kept, want);
  }
});

test("whole objects", () => {
  const [warning] = start().validate(request("json")).warnings;
  assert.equal(warning, '{"metadata":{"annotations":{"a.b/c":"d"},"labels":{"a":"b"},"name":"n"},"spec":{"containers":' +
    '[{"image":"a:1","ports":[{"hostPort":80},{}]},{"ports":[{"hostPort":81}]},{"image":"c:1"}],"replicas":3}}{"old":true}d');
  assert.deepEqual(start().validate(request("json", { object: undefined, old_object: undefined })).warnings, ["nullnull"]);
});

test("user", () => {
  const user = { user_groups: ["a", "b"], user_extra: { scopes: ["x", "y"] } };
  assert.deepEqual(start().validate(request("user", user)).warnings, ["a,b x,y none"]);
  assert.deepEqual(start().validate(request("user")).warnings, ["none none"]);
  const many = { user_groups: Array.from({ length: 1000 }, (_, i) => `group-${i}`) };
  assert.deepEqual(start().validate(request("groups", many)).audit, { groups: "1000" });
});

const objects = [
  { apiVersion: "v1", kind: "Namespace", metadata: { name: "red", labels: { tier: "gold" } } },
  { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "web", namespace: "red", labels: { app: "web" } } },
  { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "db", namespace: "blue", labels: { app: "db" } } },
  { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "x", namespace: "blue", labels: { app: "db", old: "" } } },
];

test("lookups", () => {
  assert.deepEqual(start({ objects }).validate(request("lookup")).warnings, ["gold Deployment none db,web"]);
  assert.deepEqual(start().validate(request("lookup")).warnings, ["none none none"]);
  assert.deepEqual(start({ objects, clusterErrno: "EIO" }).validate(request("lookup")).warnings, ["not yet"]);
  assert.throws(() => start({ objects, clusterErrno: "ENOTSUP" }).validate(request("lookup")),
    { errno: "ENOTSUP", message: "cleat_admission_validate: look up v1/Namespace: not supported here (ENOTSUP)" });
  assert.throws(() => start({ objects }).validate(request("lookup", { namespace: "secret" })),
    { errno: "EACCES", message: /look up v1\/Secret: not declared/ });
});

test("state", () => {
  const plugin = start({ state: { count: "41", gone: "x" } });
  assert.deepEqual(plugin.validate(request("state")).warnings, ["41 42 none"]);
  assert.deepEqual(plugin.validate(request("state", { dry_run: true })).warnings, ["42 43 none"]);
  assert.deepEqual([...plugin.state], [["count", Buffer.from("42")]]);
  assert.throws(() => plugin.validate(request("state", { user: "large" })), { errno: "E2BIG", message: /set state large/ });
  assert.deepEqual([...plugin.state.keys()], ["count"]);
});

test("log, time, random bytes and configuration", () => {
  const plugin = start({ config: { text: "gr\u00fcn \"\\\n\u{1f40b}", number: -3 }, now: new Date(5) });
  assert.deepEqual(plugin.validate(request("core")).warnings, ["5000000 gr\u00fcn \"\\ \u{1f40b} -3 random"]);
  assert.deepEqual(plugin.logs, ["hello"]);
});

test("a start that fails", () => {
  const why = "refuse: is set; leave it out";
  assert.throws(() => start({ config: { refuse: why } }), { name: "PluginError", errno: "EINVAL", message: `cleat_init: ${why}` });
});

test("a denial", () => {
  const { allowed, code, message, warnings, audit } = start().validate(request("deny"));
  assert.deepEqual({ allowed, code, message, warnings, audit }, {
    allowed: false, code: 422, message: "spec.replicas: 3 is odd; use 2 \u00fc\u{1f40b}", warnings: ["careful"], audit: { key: "value" },
  });
});

test("mutations", () => {
  const { object: changed, mutations } = start().mutate(request("all"));
  assert.equal(mutations.length, 8);
  assert.deepEqual(changed, {
    metadata: { labels: { x: "y" }, annotations: { "a.b/c": "d" }, name: "n", finalizers: ["f", { a: [1, null] }, false] },
    spec: {
      replicas: 2, any: true,
      containers: [{ image: "a:1", ports: [{ hostPort: 80 }, {}] }, { image: "b:1", ports: [{}] }, { image: "c:1" }],
    },
  });
  assert.deepEqual(start().mutate(request("any")).object.spec.any, ["a", [null, true, -(2n ** 63n), 1.5]]);
  const denied = start().mutate(request("denied"));
  assert.deepEqual([denied.allowed, denied.object], [false, object]);
});

// A mistake of the plugin is never a verdict.
for (const [hook, name, want] of [
  ["validate", "fail", "first"],
  ["validate", "set", "set spec.replicas: not supported here (ENOTSUP)"],
  ["validate", "late", "get spec: malformed argument (EINVAL)"],
  ["validate", "warn often", "warn: over a limit (E2BIG)"],
  ["validate", "status", "deny: malformed argument (EINVAL)"],
  ["mutate", "ungranted", "set metadata.name: not declared in the manifest or not granted by the lock (EACCES)"],
  ["mutate", "no element", "set spec.containers[*].image: no such entry (ENOENT)"],
  ["mutate", "no index", "set spec.containers[*].image: malformed argument (EINVAL)"],
  ["mutate", "malformed", "set spec.any: malformed argument (EINVAL)"],
]) {
  test(`a plugin error: ${name}`, () => {
    const plugin = start();
    assert.throws(() => plugin[hook](request(name)), { name: "PluginError", message: `cleat_admission_${hook}: ${want}` });
    assert.equal(plugin.validate(request("nothing")).allowed, true); // it is forgotten
  });
}

test("a crash says where, and the next call has a new instance", () => {
  const plugin = start({ config: { text: "\u00fc" } });
  assert.throws(() => plugin.validate(request("abort")), (error) => {
    assert.ok(error instanceof PluginError);
    assert.match(error.message, /^cleat_admission_validate: abort: out of ideas: \u00fc \(plugin\.ts:\d+:\d+\)$/);
    return true;
  });
  assert.equal(plugin.validate(request("nothing")).allowed, true);
});

// What the guest takes for a value is what the host takes for one.
test("the reader of values, with garbage", () => {
  const next = chance(1);
  const seeds = [null, true, 1, -1.5, "text \u00fc", [1, ["a", [null]], "b"], { a: [1] }, Array(20).fill("x")].map(encode);
  const nested = Buffer.concat(Array(18).fill(Buffer.of(6, 1, 0, 0, 0)));
  const inputs = [...seeds, nested, Buffer.concat([nested.subarray(0, 80), Buffer.of(0)]), Buffer.of(6, 255, 255, 255, 255)];
  for (let i = 0; i < 5000; i++) {
    const bytes = Buffer.from(seeds[next(seeds.length)]);
    for (let n = next(3); n >= 0; n--) bytes[next(bytes.length)] = next(4) ? next(8) : next(256);
    inputs.push(bytes.subarray(0, next(5) ? bytes.length : next(bytes.length)));
  }
  const plugin = start();
  let good = 0;
  for (const value of inputs) {
    if (!value.length) continue;
    plugin.state.set("value", Buffer.from(value));
    const want = decode(value);
    try {
      plugin.validate(request("decode"));
    } catch (error) {
      // A guest that is given malformed JSON by the host cannot go on.
      assert.match(error.message, /the host's JSON of a value is malformed/);
      assert.equal(want, undefined);
      continue;
    }
    const shown = plugin.state.get("shown").toString();
    if (want === undefined) {
      // The guest shows text that is no UTF-8 with U+FFFD, and numbers that JSON does not have.
      if (shown !== "malformed") assert.match(shown, /\ufffd|NaN|Infinity/);
      continue;
    }
    good++;
    assert.equal(settled(shown), settled(show(want)));
  }
  assert.ok(good > 1000, `${good} values were good`);
});

/** The text with numbers as JavaScript writes them, where several spellings mean the same number. */
function settled(text) {
  return text.replace(/[fi](-?\d[\d.e+-]*)/g, (_, n) => String(Number(n)));
}

function show(v) {
  if (Array.isArray(v)) return `[${v.map(show).join(",")}]`;
  switch (typeof v) {
    case "bigint": return `i${v}`;
    case "number": return Number.isInteger(v) ? `i${v}` : `f${v}`;
    case "string": return `"${v}"`;
  }
  return JSON.stringify(v);
}

test("memory stays as it is over 100,000 requests", () => {
  const plugin = start();
  const sizes = [];
  const small = { spec: { containers: [{ image: "a:1" }, { image: "b:2" }] } };
  const requests = [request("list", { object: small }), request("user", { user_groups: ["a", "b"] })];
  for (let i = 0; i < 100_000; i++) {
    plugin.validate(requests[i % 2]);
    if (i === 1000 || i === 99_999) sizes.push(plugin.memoryBytes);
  }
  assert.deepEqual(sizes, [sizes[0], sizes[0]]);
  assert.ok(sizes[0] <= 128 << 10, `${sizes[0]} bytes`);
});
