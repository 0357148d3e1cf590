// What a plugin imports and exports, against its manifest.

import { exported, foreign, imports } from "./abi.mjs";

/** What AssemblyScript would take from a browser, and what a plugin uses instead. */
const substitutes = {
  "env.seed": "Math.random: use random of cleat/plugin",
  "env.Date.now": "Date.now: use now of cleat/plugin",
  "env.trace": "trace: use log of cleat/plugin",
};

/** Everything that is wrong, in sentences. */
export function problems(module, manifest) {
  return [...importProblems(module, manifest), ...exportProblems(module, manifest)];
}

function importProblems(module, manifest) {
  const declared = manifest.capabilities ?? [];
  const found = [];
  const used = new Set();
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    const full = `${from}.${name}`;
    used.add(from);
    if (full in foreign) continue;
    if (!(from in imports)) {
      const instead = substitutes[full] ?? (name.startsWith("console.") ? "console: use log of cleat/plugin" : undefined);
      found.push(instead ? `no host has ${full}, which is for ${instead}` : `no host has ${full}`);
    } else if (!imports[from].includes(name)) {
      found.push(`${from} has no function ${name}`);
    } else if (!declared.includes(from)) {
      const missing = `manifest.json: capabilities: lacks ${JSON.stringify(from)}, which ${name} needs; add it`;
      if (!found.includes(missing)) found.push(missing);
    }
  }
  for (const name of declared) {
    if (!used.has(name)) found.push(`manifest.json: capabilities: ${JSON.stringify(name)} is not used; take it out`);
  }
  return found;
}

function exportProblems(module, manifest) {
  const present = new Map(WebAssembly.Module.exports(module).map((e) => [e.name, e.kind]));
  const found = [];
  if (present.get("memory") !== "memory") found.push("the plugin does not export its memory");
  for (const { name, points } of exported) {
    if (needs(manifest, name, points) && present.get(name) !== "function") {
      found.push(`the plugin does not export ${name}; re-export it from the SDK: export { ${name} } from "${home(name, points)}"`);
    }
  }
  return found;
}

function needs(manifest, name, points) {
  switch (name) {
    case "cleat_admission_mutate": return Boolean(manifest.admission?.mutate);
    case "cleat_admission_validate": return Boolean(manifest.admission?.validate);
  }
  return !points.length || points.some((p) => (manifest.points ?? []).includes(p));
}

function home(name, points) {
  return "cleat/" + (points.length ? points[0] : "plugin");
}
