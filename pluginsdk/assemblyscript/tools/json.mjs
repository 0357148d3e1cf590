// Canonical JSON, as the host has it: keys in byte order, no white space.

/** The canonical text of a value; integers may be BigInts, undefined members are left out. */
export function canonical(value) {
  switch (typeof value) {
    case "bigint":
      return value.toString();
    case "number":
      if (!Number.isFinite(value)) throw new TypeError(`${value} is no number of JSON`);
      return String(value);
    case "string":
      return JSON.stringify(value).replace(/[\u2028\u2029]/g, (c) => "\\u" + c.charCodeAt(0).toString(16));
    case "boolean":
      return String(value);
  }
  if (value === null || value === undefined) return "null";
  if (Array.isArray(value)) return "[" + value.map(canonical).join(",") + "]";
  const keys = Object.keys(value).filter((key) => value[key] !== undefined);
  keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return "{" + keys.map((key) => canonical(key) + ":" + canonical(value[key])).join(",") + "}";
}
