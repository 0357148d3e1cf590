// Which requests and objects are meant: match rules and label selectors.

/** The bits of the manifest's rules that select the request. CEL conditions count as true. */
export function matchingRules(rules, request) {
  let mask = 0n;
  rules.forEach((rule, i) => {
    const { resource = "", subresource = "" } = request;
    if (has(rule.operations, request.operation) && has(rule.api_groups, request.group ?? "") &&
        has(rule.api_versions, request.version) && hasResource(rule.resources, resource, subresource) &&
        selects(rule.namespace_selector, request.namespace_labels ?? {})) {
      mask |= 1n << BigInt(i);
    }
  });
  return mask;
}

const has = (values, v) => values.includes("*") || values.includes(v);

function hasResource(values, resource, sub) {
  return values.some((v) => {
    if (v === "*/*") return true;
    const [r, s = ""] = v.split("/");
    return (r === "*" || r === resource) && (s === sub || (s === "*" && sub !== ""));
  });
}

function selects(selector, labels) {
  if (!selector) return true;
  const wanted = Object.entries(selector.match_labels ?? {}).map(([key, value]) => ({ key, operator: "In", values: [value] }));
  return [...wanted, ...(selector.match_expressions ?? [])].every((e) => fits(e, labels));
}

function fits({ key, operator, values = [] }, labels) {
  const there = Object.hasOwn(labels, key);
  switch (operator) {
    case "In": return there && values.includes(labels[key]);
    case "NotIn": return !there || !values.includes(labels[key]);
    case "Exists": return there;
    case "DoesNotExist": return !there;
  }
  throw new TypeError(`label operator ${operator}`);
}

/** A label selector as kubectl writes it, as a function of labels. Throws when it is none. */
export function parseSelector(text) {
  if (!text.trim()) return () => true;
  const wanted = text.split(/,(?![^(]*\))/).map((part) => {
    let m;
    if ((m = /^\s*([\w./-]+)\s+(in|notin)\s*\(([^)]*)\)\s*$/.exec(part))) {
      return { key: m[1], operator: m[2] === "in" ? "In" : "NotIn", values: m[3].split(",").map((v) => v.trim()) };
    }
    if ((m = /^\s*([\w./-]+)\s*(==?|!=)\s*([\w.-]*)\s*$/.exec(part))) {
      return { key: m[1], operator: m[2] === "!=" ? "NotIn" : "In", values: [m[3]] };
    }
    if ((m = /^\s*(!?)\s*([\w./-]+)\s*$/.exec(part))) return { key: m[2], operator: m[1] ? "DoesNotExist" : "Exists" };
    throw new SyntaxError(`label selector: ${JSON.stringify(part)} is not like a=b, a in (b,c), a or !a`);
  });
  return (labels) => wanted.every((e) => fits(e, labels));
}
