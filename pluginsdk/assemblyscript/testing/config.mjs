// The configuration, as the lock gives it to the plugin.

import { limits } from "../tools/abi.mjs";
import { canonical } from "../tools/json.mjs";

const texts = (values) => values.every((v) => typeof v === "string");

const fits = {
  string: (v) => typeof v === "string",
  bool: (v) => typeof v === "boolean",
  integer: Number.isSafeInteger,
  strings: (v) => Array.isArray(v) && texts(v),
  map: (v) => typeof v === "object" && v !== null && !Array.isArray(v) && texts(Object.values(v)),
};

/** The text config_get answers with: what is given, and the defaults of the schema. */
export function resolveConfig(manifest, given) {
  const schema = manifest.config_schema ?? {};
  const resolved = {};
  for (const [key, field] of Object.entries(schema)) {
    if (field.default !== undefined) resolved[key] = field.default;
  }
  for (const [key, value] of Object.entries(given)) {
    if (!schema[key]) throw new TypeError(`config key ${key} is unknown to plugin ${manifest.name}`);
    if (!fits[schema[key].type](value)) throw new TypeError(`config key ${key} of plugin ${manifest.name}: want ${schema[key].type}`);
    resolved[key] = value;
  }
  const text = canonical(resolved);
  if (Buffer.byteLength(text) > limits.config) throw new RangeError(`config of plugin ${manifest.name}: over ${limits.config} bytes`);
  return text;
}
