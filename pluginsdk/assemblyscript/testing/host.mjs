// The host functions, for one plugin under test. They are as strict as those of
// the real host: what is undeclared is refused, what is too large as well.

import { createHash } from "node:crypto";
import { imports, limits, requestFields } from "../tools/abi.mjs";
import { canonical } from "../tools/json.mjs";
import { parseSelector } from "./match.mjs";
import { Errno } from "./memory.mjs";
import { covers, locate, parsePath, valueAt } from "./path.mjs";
import { decode, encode } from "./value.mjs";
import { documents } from "./yaml.mjs";

/** The handle of every request; not 0, so that a guest which passes none is noticed. */
export const handle = 7;

/**
 * The import object for a plugin. call() is the running hook, memory what the
 * guest exports.
 */
export function hostFunctions(plugin, memory, call) {
  const context = { plugin, memory, get call() { return call(); } };
  const all = { ...core(context), ...object(context), ...request(context), ...render(context), ...cluster(context) };
  const linked = { env: { abort: (...args) => abort(memory, ...args) } };
  for (const capability of plugin.manifest.capabilities) {
    linked[capability] = Object.fromEntries(imports[capability].map((name) => [name, answering(context, all[name])]));
  }
  return linked;
}

/** The function, with an Errno it throws as its answer. */
function answering(context, f) {
  return (...args) => {
    try {
      return f(...args) ?? 0;
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      if (error.words) context.call.errorText = error.words;
      return error.number;
    }
  };
}

function abort(memory, message, file, line, column) {
  throw new Error(`abort: ${memory.utf16(message)} (${memory.utf16(file)}:${line}:${column})`);
}

function core(h) {
  const { memory, plugin } = h;
  const needInput = () => {
    if (h.call.input === undefined) throw new Errno("ENOTSUP");
  };
  return {
    log(level, at, size) {
      if (level < -4 || level > 8) throw new Errno("EINVAL");
      plugin.logs.push(memory.text(at, size, limits.log).trimEnd());
    },
    input_get(buf, limit) {
      needInput();
      return memory.fill(buf, limit, h.call.input);
    },
    output_set(at, size) {
      needInput();
      if (size >>> 0 > limits.message) throw new Errno("E2BIG");
      h.call.output = memory.text(at, size);
    },
    error_set(at, size) {
      h.call.errorText = memory.text(at, size, limits.text).trim();
    },
    config_get: (buf, limit) => memory.fill(buf, limit, plugin.configText),
    now: () => plugin.options.now instanceof Date ? BigInt(plugin.options.now.getTime()) * 1_000_000n : BigInt(plugin.options.now),
    random(buf, limit) {
      if (limit >>> 0 > limits.random) throw new Errno("E2BIG");
      const bytes = Buffer.alloc(limit);
      for (let at = 0; at < limit; at += 32) {
        createHash("sha256").update(`random ${h.call.randoms++}`).digest().copy(bytes, at);
      }
      return memory.fill(buf, limit, plugin.options.random?.(limit) ?? bytes);
    },
  };
}

/** Refuses a handle that is not the one of the running hook. */
function checkHandle(h, given) {
  if (!h.call.request || given !== handle) throw new Errno("EBADF");
}

function object(h) {
  const { memory, plugin } = h;
  const { read, write } = plugin.granted;
  const allowed = (granted, path) => granted.some((g) => covers(g, path));
  const pathOf = (given, id) => {
    checkHandle(h, given);
    return plugin.paths[id] ?? (() => { throw new Errno("EINVAL"); })();
  };
  const record = (op, given, id, index, at, size) => {
    const path = pathOf(given, id);
    if (!h.call.mutating) throw new Errno("ENOTSUP");
    if (index < -1 || (index === -1) === path.wild) throw new Errno("EINVAL");
    if (op === "append" && path.text.endsWith("[*]")) throw new Errno("EINVAL");
    if (!allowed(write, path)) throw new Errno("EACCES");
    const mutation = { op, path: path.text, index };
    if (op !== "remove") {
      if (size >>> 0 > limits.value) throw new Errno("E2BIG");
      mutation.value = decode(memory.read(at, size));
      if (mutation.value === undefined) throw new Errno("EINVAL", `${op} ${path.text}: malformed value`);
    }
    if (h.call.mutations.length === limits.mutations) throw new Errno("E2BIG");
    if (!locate(h.call.object, path, index)) throw new Errno("ENOENT");
    h.call.mutations.push(mutation);
  };
  return {
    path_register(at, size) {
      if (!h.call.starting) throw new Errno("ENOTSUP");
      const path = parsed(() => parsePath(memory.text(at, size)));
      if (!allowed(read, path) && !allowed(write, path)) throw new Errno("EACCES");
      const known = plugin.paths.findIndex((p) => p.text === path.text);
      if (known >= 0) return known;
      if (plugin.paths.length === limits.paths) throw new Errno("E2BIG");
      return plugin.paths.push(path) - 1;
    },
    object_get(given, id, buf, limit) {
      const path = pathOf(given, id);
      if (!allowed(read, path)) throw new Errno("EACCES");
      return fillValue(memory, buf, limit, valueAt(h.call.object, path));
    },
    object_set: (given, id, index, at, size) => record("set", given, id, index, at, size),
    object_remove: (given, id, index) => record("remove", given, id, index),
    object_append: (given, id, index, at, size) => record("append", given, id, index, at, size),
    object_json(given, which, buf, limit) {
      checkHandle(h, given);
      if (which !== 0 && which !== 1) throw new Errno("EINVAL");
      return memory.fill(buf, limit, canonical((which ? h.call.request.old_object : h.call.object) ?? null));
    },
  };
}

/** What f returns; an error of it is a malformed argument. */
function parsed(f) {
  try {
    return f();
  } catch (error) {
    throw new Errno("EINVAL", error.message);
  }
}

function fillValue(memory, buf, limit, value) {
  const bytes = encode(value);
  if (bytes.length > limits.value) throw new Errno("E2BIG");
  return memory.fill(buf, limit, bytes);
}

function request(h) {
  const { memory } = h;
  const own = (map, key) => {
    if (!map || !Object.hasOwn(map, key)) throw new Errno("ENOENT");
    return map[key];
  };
  return {
    request_get(given, field, buf, limit) {
      checkHandle(h, given);
      const name = requestFields[field];
      if (!name) throw new Errno("EINVAL");
      const value = h.call.request[name] ?? (name === "dry_run" ? false : "");
      return memory.fill(buf, limit, String(value));
    },
    namespace_label_get(given, at, size, buf, limit) {
      checkHandle(h, given);
      return memory.fill(buf, limit, own(h.call.request.namespace_labels, memory.text(at, size)));
    },
    user_groups_get(given, buf, limit) {
      checkHandle(h, given);
      return fillValue(memory, buf, limit, h.call.request.user_groups ?? []);
    },
    user_extra_get(given, at, size, buf, limit) {
      checkHandle(h, given);
      return fillValue(memory, buf, limit, own(h.call.request.user_extra, memory.text(at, size)));
    },
    deny(given, at, size, code) {
      checkHandle(h, given);
      if (code && (code < 400 || code > 599)) throw new Errno("EINVAL");
      h.call.denial = { code: code || 403, message: memory.text(at, size, limits.text).trim() };
    },
    warn(given, at, size) {
      checkHandle(h, given);
      const text = memory.text(at, size, limits.text).replace(/[\x00-\x1f\x7f]/g, " ").trim();
      if (!text) throw new Errno("EINVAL");
      if (h.call.warnings.length === limits.warnings) throw new Errno("E2BIG");
      h.call.warnings.push(text);
    },
    audit(given, keyAt, keySize, valueAt, valueSize) {
      checkHandle(h, given);
      const key = memory.text(keyAt, keySize);
      const value = memory.text(valueAt, valueSize, limits.text);
      if (!/^[\w.-]{1,63}$/.test(key)) throw new Errno("EINVAL");
      if (h.call.audits++ === limits.warnings) throw new Errno("E2BIG");
      h.call.audit[key] = value;
    },
  };
}

function render(h) {
  const { memory, plugin } = h;
  const answer = (buf, limit, make) => {
    const text = canonical(parsed(make));
    if (Buffer.byteLength(text) > limits.message) throw new Errno("E2BIG");
    return memory.fill(buf, limit, text);
  };
  const input = (at, size) => {
    if (size >>> 0 > limits.message) throw new Errno("E2BIG");
    return memory.text(at, size);
  };
  const ofInput = (renderer) => (at, size, buf, limit) => {
    const text = input(at, size);
    if (!renderer || !h.call.deploy) throw new Errno("ENOTSUP");
    return answer(buf, limit, () => renderer(JSON.parse(text), h.call.deploy));
  };
  return {
    render_yaml(at, size, buf, limit) {
      const text = input(at, size);
      return answer(buf, limit, () => documents(text));
    },
    render_helm: ofInput(plugin.options.renderHelm),
    render_kustomize: ofInput(plugin.options.renderKustomize),
  };
}

function cluster(h) {
  const { memory, plugin } = h;
  const checkCluster = () => {
    if (h.call.clusterless) throw new Errno("ENOTSUP");
    if (plugin.options.clusterErrno) throw new Errno(plugin.options.clusterErrno);
  };
  const objectsOf = (kind) => {
    if (!/^([a-z0-9.-]+\/)?[a-z0-9]+\/[A-Z][A-Za-z0-9]*$/.test(kind)) throw new Errno("EINVAL", `${kind} is not like v1/Namespace`);
    if (!plugin.manifest.lookups?.includes(kind)) throw new Errno("EACCES", `kind ${kind} is not among the lookups of the manifest`);
    checkCluster();
    const sortKey = (o) => Buffer.from(`${o.metadata.namespace ?? ""}\0${o.metadata.name}`);
    return plugin.options.objects.filter((o) => `${o.apiVersion}/${o.kind}` === kind)
      .sort((a, b) => Buffer.compare(sortKey(a), sortKey(b)));
  };
  const at = (o, path) => (path ? valueAt(o, path) : o);
  const pathAt = (ptr, size) => (size ? parsed(() => parsePath(memory.text(ptr, size))) : undefined);
  const key = (ptr, size) => {
    if (size === 0 || size >>> 0 > limits.key) throw new Errno("EINVAL");
    checkCluster();
    return memory.text(ptr, size);
  };
  return {
    lookup_get(kind, kindSize, space, spaceSize, name, nameSize, path, pathSize, buf, limit) {
      const found = objectsOf(memory.text(kind, kindSize));
      const [namespace, called, where] = [memory.text(space, spaceSize), memory.text(name, nameSize), pathAt(path, pathSize)];
      if (!called) throw new Errno("EINVAL");
      const o = found.find(({ metadata: m }) => m.name === called && (m.namespace ?? "") === namespace);
      if (!o) throw new Errno("ENOENT");
      return fillValue(memory, buf, limit, at(o, where));
    },
    lookup_list(kind, kindSize, space, spaceSize, selector, selectorSize, path, pathSize, buf, limit) {
      const found = objectsOf(memory.text(kind, kindSize));
      const [namespace, where] = [memory.text(space, spaceSize), pathAt(path, pathSize)];
      const selected = parsed(() => parseSelector(memory.text(selector, selectorSize)));
      const list = found.filter(({ metadata: m }) => (!namespace || m.namespace === namespace) && selected(m.labels ?? {}));
      if (list.length > limits.lookup_objects) throw new Errno("E2BIG");
      return fillValue(memory, buf, limit, list.map((o) => at(o, where)));
    },
    kv_get(ptr, size, buf, limit) {
      const name = key(ptr, size);
      const value = h.call.state.get(name) ?? plugin.state.get(name);
      if (!value?.length) throw new Errno("ENOENT");
      return memory.fill(buf, limit, value);
    },
    kv_set(ptr, size, valuePtr, valueSize) {
      const name = key(ptr, size);
      if (h.call.starting) throw new Errno("ENOTSUP");
      const full = !h.call.state.has(name) && h.call.state.size === limits.state_keys;
      if (valueSize >>> 0 > limits.state_value || full) throw new Errno("E2BIG");
      h.call.state.set(name, Buffer.from(memory.read(valuePtr, valueSize)));
    },
  };
}
