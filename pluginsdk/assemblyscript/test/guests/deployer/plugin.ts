// A guest that does what the name of the file says, for the tests of the SDK.

import { onPlan as onNetwork } from "cleat/cni";
import { onPlan as onDatastore } from "cleat/datastore";
import { onRender } from "cleat/deployer";
import { Json } from "cleat/json";
import { JsonWriter } from "cleat/jsonwriter";
import { fail } from "cleat/plugin";
import { renderHelm, renderKustomize, renderYaml } from "cleat/render";

export { cleat_abi_1, cleat_init } from "cleat/plugin";
export { cleat_cni_plan } from "cleat/cni";
export { cleat_datastore_plan } from "cleat/datastore";
export { cleat_deployer_render } from "cleat/deployer";

onRender(render);
onNetwork(network);
onDatastore(datastore);

function network(request: Json, plan: JsonWriter): bool {
  plan.object().key("driver").text("none").key("mtu").int(request.get("node").get("mtu").int() - 50).end();
  return true;
}

function datastore(request: Json, plan: JsonWriter): bool {
  if (!request.get("endpoint").text().startsWith("test://")) return false;
  plan.object().key("driver").text("etcd").end();
  return true;
}

function render(request: Json, result: JsonWriter): bool {
  const what = request.get("file").text();
  if (what == "copy") return copyOf(request.get("content").text(), result);
  if (what == "tree") tree(Json.parse(request.get("content").text())!, result);
  else if (what == "yaml") result.json(renderYaml(request.get("content").text()));
  else if (what == "helm") result.json(renderHelm(new JsonWriter().object().key("release").text("r").end()));
  else if (what == "kustomize") result.json(renderKustomize(new JsonWriter().object().end()));
  else if (what == "fail") fail("content: is wrong; correct it");
  else if (what == "open") result.object();
  else if (what == "keyless") result.object().null();
  else if (what == "two") result.null().null();
  else if (what == "unopened") result.end();
  else if (what == "deep") for (let i = 0; i < 65; i++) result.array();
  else if (what == "nan") result.float(NaN);
  else return false;
  return true;
}

/** The text as it was read, or null when it is no JSON. */
function copyOf(text: string, result: JsonWriter): bool {
  const value = Json.parse(text);
  if (value) result.object().key("value").json(value).end();
  else result.null();
  return true;
}

/** The value written anew, part by part. */
function tree(value: Json, w: JsonWriter): void {
  if (value.isObject) {
    w.object();
    const keys = value.keys(), items = value.items();
    for (let i = 0; i < keys.length; i++) {
      if (!value.has(keys[i]) || value.has(keys[i] + "?")) throw new Error("has " + keys[i]);
      tree(i % 2 ? value.get(keys[i]) : items[i], w.key(keys[i]));
    }
    w.end();
  } else if (value.isArray) {
    w.array();
    const items = value.items();
    for (let i = 0; i < items.length; i++) tree(items[i], w);
    w.end();
  } else if (value.isText) {
    w.text(value.text());
  } else if (value.isInt) {
    w.int(value.int());
  } else if (value.isNumber) {
    w.float(value.float());
  } else if (value.isBool) {
    w.bool(value.isTrue);
  } else {
    w.null();
  }
}
