// Field paths, and what is at them in an object.

import { limits } from "../tools/abi.mjs";

const each = Symbol("[*]");

/** A field path: spec.containers[*].image, metadata.labels['a.b/c']. Throws when it is none. */
export function parsePath(text) {
  const steps = [];
  let rest = text;
  const fail = (why) => { throw new SyntaxError(`field path ${JSON.stringify(text)}: ${why}`); };
  if (Buffer.byteLength(text) > limits.path) fail(`longer than ${limits.path} bytes`);
  do {
    if (steps.length === limits.path_steps) fail(`more than ${limits.path_steps} steps`);
    let m;
    if (steps.length && (m = /^\[\*\]/.exec(rest))) {
      steps.push(each);
    } else if ((m = /^\['((?:[^'\\\x00-\x1f\x7f]|\\['\\])+)'\]/.exec(rest))) {
      steps.push(m[1].replace(/\\(.)/g, "$1"));
    } else if ((m = (steps.length ? /^\.([\w-]+)/ : /^([\w-]+)/).exec(rest))) {
      steps.push(m[1]);
    } else {
      fail(`want a key, ['key'] or [*] at ${JSON.stringify(rest.slice(0, 20))}`);
    }
    rest = rest.slice(m[0].length);
  } while (rest);
  return { text: format(steps), steps, wild: steps.includes(each) };
}

function format(steps) {
  return steps.map((step, i) => {
    if (step === each) return "[*]";
    if (/^[\w-]+$/.test(step)) return (i ? "." : "") + step;
    return `['${step.replace(/['\\]/g, "\\$&")}']`;
  }).join("");
}

/** Whether q is p or below it. */
export function covers(p, q) {
  return p.steps.length <= q.steps.length && p.steps.every((step, i) => step === q.steps[i]);
}

const isMap = (v) => typeof v === "object" && v !== null && !Array.isArray(v);
const member = (node, key) => (isMap(node) && Object.hasOwn(node, key) ? node[key] : null);

/** The value at a path; a flat list when it has [*]. */
export function valueAt(object, path) {
  const ways = waysTo(object, path.steps).map(({ value }) => value ?? null);
  return path.wild ? ways : ways[0];
}

/** Every place a path names, with its value. */
function waysTo(node, steps, way = []) {
  if (!steps.length) return [{ way, value: node }];
  const [step, ...rest] = steps;
  if (step !== each) return waysTo(member(node, step), rest, [...way, step]);
  if (!Array.isArray(node)) return [];
  return node.flatMap((element, i) => waysTo(element, rest, [...way, i]));
}

/** The way to a position, undefined when there is none. Keys are strings, elements numbers. */
export function locate(object, path, index) {
  return waysTo(object, path.steps)[path.wild ? index : 0]?.way;
}

const hole = Symbol("removed");

/** A copy of the object with the mutations made in order. */
export function apply(object, mutations) {
  if (!mutations.length) return object;
  if (!isMap(object)) throw new TypeError("the request has no object to change");
  let result = structuredClone(object);
  for (const m of mutations) {
    const way = locate(object, parsePath(m.path), m.index);
    try {
      result = change(result, way, m);
    } catch (cause) {
      throw new TypeError(`${m.op} ${m.path}: ${cause.message}`, { cause });
    }
  }
  return close(result);
}

/** Makes the mutation below node and returns what stands there then. */
function change(node, way, m) {
  if (!way.length) {
    if (m.op === "set") return m.value;
    if (node !== null && !Array.isArray(node)) throw new TypeError("a value that is no list stands there");
    return [...(node ?? []), m.value];
  }
  const [step, ...rest] = way;
  const removing = m.op === "remove";
  if (typeof step === "number") {
    if (node?.[step] === undefined || (node[step] === hole && !removing)) throw new TypeError("the list has no such element any more");
    if (node[step] !== hole) node[step] = removing && !rest.length ? hole : change(node[step], rest, m);
    return node;
  }
  if (node === null && removing) return null;
  if (node !== null && !isMap(node)) throw new TypeError("a value that is no map stands on the way");
  const map = node ?? {};
  if (removing && !Object.hasOwn(map, step)) return map;
  if (removing && !rest.length) delete map[step];
  else put(map, step, change(member(map, step), rest, m));
  return map;
}

// A key may be __proto__.
function put(map, key, value) {
  Object.defineProperty(map, key, { value, writable: true, enumerable: true, configurable: true });
}

function close(node) {
  if (Array.isArray(node)) return node.filter((e) => e !== hole).map(close);
  if (isMap(node)) for (const [key, value] of Object.entries(node)) put(node, key, close(value));
  return node;
}
