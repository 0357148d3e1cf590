// Rendering in the host. A plugin that uses it imports, and must declare, the
// capability cleat_render_v1. When the text is malformed the hook fails, and the
// host tells the operator where.

import * as abi from "./abi";
import * as host from "./host";
import { Json } from "./json";
import { JsonWriter } from "./jsonwriter";
import * as utf8 from "./utf8";

/** Parses a stream of YAML or JSON documents: an array with one value for each, null for an empty one. */
export function renderYaml(text: string): Json {
  return renderYamlBytes(utf8.bytes(text));
}

/** renderYaml for text in UTF-8, as Json.bytes returns it. */
export function renderYamlBytes(text: StaticArray<u8>): Json {
  if (host.failed()) return Json.NULL;
  let n: i32;
  host.begin();
  do n = abi.render_yaml(changetype<usize>(text), text.length, host.room, host.limit); while (host.again(n));
  return rendered(n);
}

/**
 * Renders the chart that the running hook was asked about, or the archive that
 * the request carries: HelmRequest in, HelmResult out. Templates see neither
 * network nor cluster. It needs ABI 1.1.
 */
export function renderHelm(request: JsonWriter): Json {
  if (host.failed()) return Json.NULL;
  request.check();
  let n: i32;
  host.begin();
  do n = abi.render_helm(request.at, request.size, host.room, host.limit); while (host.again(n));
  return rendered(n);
}

/**
 * Builds the kustomization in the directory that the running hook was asked
 * about: KustomizeRequest in, an array of objects out. It needs ABI 1.1.
 */
export function renderKustomize(request: JsonWriter): Json {
  if (host.failed()) return Json.NULL;
  request.check();
  let n: i32;
  host.begin();
  do n = abi.render_kustomize(request.at, request.size, host.room, host.limit); while (host.again(n));
  return rendered(n);
}

/** What the host answered; its words about a failure stand. */
function rendered(n: i32): Json {
  if (n < 0) {
    host.failure(n, "");
    return Json.NULL;
  }
  if (!host.checkAnswer(n, "render")) return Json.NULL;
  return Json.of(host.answer(n), "what it rendered");
}
