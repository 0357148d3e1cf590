// Cases as `cleat plugin verify` reads them: a question each, and what must come
// of it.

import { readFileSync } from "node:fs";
import { Plugin, PluginError } from "./index.mjs";

/** The cases in a file. */
export function readCases(file) {
  return JSON.parse(readFileSync(file, "utf8"));
}

/** What the plugin in a file makes of a case, in the form of the case's want. */
export function outcome(file, { config, mutate, validate, render, network, datastore }) {
  let plugin;
  try {
    plugin = new Plugin(readFileSync(file), { config });
  } catch (error) {
    return { answer: "no-start", detail: detail(error) };
  }
  try {
    if (mutate) return verdict(plugin.mutate(mutate), mutate);
    if (validate) return verdict(plugin.validate(validate), validate);
    if (render) return plan(plugin.render(render));
    if (network) return plan(plugin.network(network));
    if (datastore) return plan(plugin.datastore(datastore));
    return { answer: "started" };
  } catch (error) {
    return { answer: "fault", detail: detail(error) };
  }
}

/** Why, without the name of the hook. */
function detail(error) {
  if (!(error instanceof PluginError)) throw error;
  return error.message.replace(/^\w+: /, "");
}

function verdict(v, request) {
  const outcome = { answer: v.allowed ? "allow" : "deny" };
  if (!v.allowed) Object.assign(outcome, { code: v.code, message: v.message });
  if (v.object !== (request.object ?? null)) outcome.object = v.object;
  if (v.warnings.length) outcome.warnings = v.warnings;
  if (Object.keys(v.audit).length) outcome.audit = v.audit;
  return outcome;
}

const plan = (p) => (p === undefined ? { answer: "not-mine" } : { answer: "decided", plan: p });
