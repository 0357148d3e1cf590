// YAML as the host reads it: version 1.1, no dates, no key twice.

import { parseAllDocuments } from "yaml";

/** The documents of a stream, null for an empty one. Integers are BigInts. Throws when it is malformed. */
export function documents(text) {
  const options = {
    version: "1.1", intAsBigInt: true, uniqueKeys: true, prettyErrors: false,
    customTags: (tags) => tags.filter((t) => t.format !== "TIME" && t.tag !== "tag:yaml.org,2002:timestamp"),
  };
  return [...parseAllDocuments(text, options)].map((document, i) => {
    if (document.errors.length) throw new Error(`document ${i + 1}: ${document.errors[0].message}`);
    return document.toJS({ maxAliasCount: 100 });
  });
}
