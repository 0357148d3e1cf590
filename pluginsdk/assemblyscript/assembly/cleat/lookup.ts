// Objects of the cluster: declared kinds only, from a cache that may lag behind
// by a moment. A plugin that uses it imports, and must declare, the capability
// cleat_lookup_v1, and lists the kinds under lookups in its manifest. It needs
// ABI 1.1.
//
// A lookup that fails is remembered like any host function; EIO says that the
// cache is not filled yet, ENOTSUP that there is no cluster to ask. A plugin that
// can decide without calls forgive(EIO).

import * as abi from "./abi";
import * as host from "./host";
import { Value } from "./value";

/**
 * The value at a field path of an object, of the whole object for path "";
 * null when there is no such object. kind is v1/Namespace or
 * apps/v1/Deployment; namespace is "" for a cluster-scoped object.
 */
export function lookup(kind: string, namespace: string, name: string, path: string): Value | null {
  if (host.failed()) return null;
  let n: i32;
  host.begin();
  do {
    n = abi.lookup_get(
      host.first(kind), host.size, host.next(namespace), host.size, host.next(name), host.size,
      host.next(path), host.size, host.room, host.limit);
  } while (host.again(n));
  return n == abi.ENOENT ? null : value(n, kind);
}

/**
 * The value at a field path of every object of a kind, in the order of namespace
 * and name. namespace "" is all namespaces; selector is a label selector as
 * kubectl writes it, "" for all.
 */
export function lookupList(kind: string, namespace: string, selector: string, path: string): Value[] {
  if (host.failed()) return [];
  let n: i32;
  host.begin();
  do {
    n = abi.lookup_list(
      host.first(kind), host.size, host.next(namespace), host.size, host.next(selector), host.size,
      host.next(path), host.size, host.room, host.limit);
  } while (host.again(n));
  const list = value(n, kind);
  return list ? list.items() : [];
}

function value(n: i32, kind: string): Value | null {
  if (!host.checkAnswer(n, "look up", kind)) return null;
  const v = Value.decode(host.answer(n));
  if (!v) host.check(abi.EIO, "look up", kind);
  return v;
}
