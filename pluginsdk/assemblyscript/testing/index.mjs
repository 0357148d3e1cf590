// Runs a plugin in node, against a host that holds its manifest.
//
//   const plugin = load("plugin.wasm", { config: { registries: ["registry.local"] } });
//   const verdict = plugin.validate({ operation: "CREATE", ..., object: pod });
//
// What it cannot show is left to the real host: deadlines and memory limits do
// not hold, CEL match conditions count as true, and YAML is read by another
// library.

import { readFileSync } from "node:fs";
import { errnos, errnoTexts } from "../tools/abi.mjs";
import { problems } from "../tools/check.mjs";
import { canonical } from "../tools/json.mjs";
import { manifestOf } from "../tools/wasm.mjs";
import { resolveConfig } from "./config.mjs";
import { handle, hostFunctions } from "./host.mjs";
import { matchingRules } from "./match.mjs";
import { Memory } from "./memory.mjs";
import { apply, parsePath } from "./path.mjs";

/** What a hook ends in that comes to no answer. */
export class PluginError extends Error {
  /** errno is the name of the error number, undefined after a crash. */
  constructor(message, errno, cause) {
    super(message, { cause });
    this.name = "PluginError";
    this.errno = errno;
  }
}

/**
 * What surrounds the plugin.
 * @typedef {object} Options
 * @property {object} [config] its configuration, without the defaults of the manifest
 * @property {object[]} [objects] what lookups find, each with apiVersion, kind and metadata.name
 * @property {Record<string, string | Uint8Array>} [state] its state before the first hook
 * @property {"EIO" | "ENOTSUP"} [clusterErrno] what lookups and state answer, for a cluster that cannot be asked
 * @property {Date | bigint} [now] when hooks are entered, in nanoseconds as a bigint; the beginning of 2000
 * @property {(size: number) => Uint8Array} [random] else every hook gets the same bytes
 * @property {(request: object, input: object) => object} [renderHelm] stands in for render_helm
 * @property {(request: object, input: object) => object[]} [renderKustomize] stands in for render_kustomize
 */

/**
 * Starts the plugin in a file.
 * @param {string | URL} file
 * @param {Options} [options]
 */
export function load(file, options = {}) {
  return new Plugin(readFileSync(file), options);
}

/** A started plugin. */
export class Plugin {
  #module;
  #exports;
  #memory = new Memory();
  #call;

  /** Starts the plugin in these bytes; throws a PluginError when it refuses. */
  constructor(wasm, options = {}) {
    this.#module = new WebAssembly.Module(wasm);
    this.manifest = manifestOf(this.#module);
    const found = problems(this.#module, this.manifest);
    if (found.length) throw new Error(found.join("\n"));
    this.options = { objects: [], now: new Date(Date.UTC(2000, 0)), ...options };
    this.configText = resolveConfig(this.manifest, options.config ?? {});
    const { read_paths = [], write_paths = [] } = this.manifest.admission ?? {};
    this.granted = { read: read_paths.map(parsePath), write: write_paths.map(parsePath) };
    /** The plugin's state; what a hook sets is added once it has decided. */
    this.state = new Map(Object.entries(options.state ?? {}).map(([key, value]) => [key, Buffer.from(value)]));
    /** The lines the plugin has logged. */
    this.logs = [];
    this.#start();
  }

  /** How many bytes of memory the instance has. */
  get memoryBytes() {
    return this.#memory.size;
  }

  /** Asks cleat_admission_validate. */
  validate(request) {
    return this.#admit("cleat_admission_validate", request, this.manifest.admission?.validate);
  }

  /** Asks cleat_admission_mutate. The verdict's object is the changed one. */
  mutate(request) {
    return this.#admit("cleat_admission_mutate", request, this.manifest.admission?.mutate);
  }

  /** Asks cleat_deployer_render; undefined when the plugin leaves the file to another. */
  render(request) {
    return this.#plan("cleat_deployer_render", request, { deploy: request });
  }

  /** Asks cleat_cni_plan. */
  network(request) {
    return this.#plan("cleat_cni_plan", request, {});
  }

  /** Asks cleat_datastore_plan. */
  datastore(request) {
    return this.#plan("cleat_datastore_plan", request, { clusterless: true });
  }

  #start() {
    this.paths = [];
    const functions = hostFunctions(this, this.#memory, () => this.#call);
    this.#exports = new WebAssembly.Instance(this.#module, functions).exports;
    this.#memory.attach(this.#exports.memory);
    this.#run("_initialize", {});
    this.#run("cleat_init", { starting: true, clusterless: true });
  }

  /** Runs an export; a negative result and a crash are errors. */
  #run(name, call, ...args) {
    if (!this.#exports) this.#start();
    this.#call = { randoms: 0, state: new Map(), ...call };
    let n;
    try {
      n = this.#exports[name]?.(...args) ?? 0;
    } catch (cause) {
      this.#exports = undefined; // the next call gets a new instance
      throw new PluginError(`${name}: ${cause.message}`, undefined, cause);
    }
    if (n >= 0) return n;
    if (name === "cleat_init") this.#exports = undefined;
    const errno = Object.keys(errnos).find((key) => errnos[key] === n);
    throw new PluginError(`${name}: ${this.#call.errorText || (errnoTexts[errno] ?? `returned ${n}`)}`, errno);
  }

  #admit(name, request, declared) {
    if (!declared) throw new TypeError(`the manifest does not declare ${name}`);
    const object = request.object ?? null;
    const verdict = { entered: false, allowed: true, warnings: [], audit: {}, mutations: [], object };
    const rules = matchingRules(this.manifest.admission.rules, request);
    if (!rules) return verdict;
    const { warnings, audit, mutations } = verdict;
    const mutating = name === "cleat_admission_mutate";
    const n = this.#run(name, { request, object, mutating, warnings, audit, audits: 0, mutations }, handle, BigInt.asIntN(64, rules));
    verdict.entered = true;
    if (n === 1) {
      Object.assign(verdict, { allowed: false, mutations: [], ...(this.#call.denial ?? { code: 403, message: "" }) });
    } else if (n !== 0) {
      throw new PluginError(`${name} returned ${n}`);
    } else {
      verdict.object = apply(object, mutations);
    }
    if (!request.dry_run) this.#keepState();
    return verdict;
  }

  #plan(name, request, call) {
    if (!this.#exports?.[name] && this.#exports) throw new TypeError(`the plugin does not export ${name}`);
    const n = this.#run(name, { ...call, input: canonical(request) });
    if (n > 1) throw new PluginError(`${name} returned ${n}`);
    if (n === 0 && this.#call.output === undefined) throw new PluginError(`${name} decided without output_set`);
    this.#keepState();
    return n === 0 ? JSON.parse(this.#call.output) : undefined;
  }

  #keepState() {
    for (const [key, value] of this.#call.state) {
      if (value.length) this.state.set(key, value);
      else this.state.delete(key);
    }
  }
}
