// A guest that does what the name of the request says, for the tests of the SDK.

import * as abi from "cleat/abi";
import { Path, Request, SINGLE, onMutate, onValidate } from "cleat/admission";
import { Json } from "cleat/json";
import { JsonWriter } from "cleat/jsonwriter";
import { lookup, lookupList } from "cleat/lookup";
import { config, fail, failed, forgive, log, now, onInit, random } from "cleat/plugin";
import { getState, getStateText, setState, setStateText } from "cleat/state";
import { Value, ValueWriter } from "cleat/value";

export { cleat_abi_1, cleat_init } from "cleat/plugin";
export { cleat_admission_mutate, cleat_admission_validate } from "cleat/admission";

const images = new Path("spec.containers[*].image");
const any = new Path("spec.any");
const labels = new Path("metadata.labels");
const quoted = new Path("metadata.annotations['a.b/c']");
const name = new Path("metadata.name");
const replicas = new Path("spec.replicas");
const finalizers = new Path("metadata.finalizers");
const ports = new Path("spec.containers[*].ports[*].hostPort");

let text = "";
let number: i64 = 0;
let kept: Value[] = [];

onInit(start);
onMutate(mutate);
onValidate(validate);

function start(): void {
  const c = config();
  text = c.get("text").text();
  number = c.get("number").int();
  const why = c.get("refuse").text();
  if (why.length) fail(why);
}

function validate(r: Request): void {
  const what = r.name;
  if (what == "fields") fields(r);
  else if (what == "read") r.warn(show(r.get(any)));
  else if (what == "list") r.warn(r.get(images).texts().join("|") + " " + r.get(ports).length.toString());
  else if (what == "keep") keep(r);
  else if (what == "json") r.warn(r.object().toString() + r.oldObject().toString() + r.get(quoted).text());
  else if (what == "user") user(r);
  else if (what == "lookup") lookups(r);
  else if (what == "state") state(r);
  else if (what == "decode") decode(r);
  else if (what == "core") core(r);
  else if (what == "deny") refuse(r);
  else if (what == "fail") giveUp(r);
  else if (what == "abort") throw new Error("out of ideas: " + text);
  else if (what == "set") r.setInt(replicas, SINGLE, 1);
  else if (what == "late") r.get(new Path("spec"));
  else if (what == "warn often") for (let i = 0; i < 40; i++) r.warn("x");
  else if (what == "status") r.deny("no", 200);
  else if (what == "groups") r.audit("groups", r.userGroups().length.toString());
}

function fields(r: Request): void {
  r.audit("request", [
    r.operation, r.group, r.version, r.kind, r.resource, r.subresource, r.namespace, r.name, r.user, r.userUid, r.id,
    r.dryRun ? "dry" : "wet",
    r.rule(0) ? "0" : "", r.rule(1) ? "1" : "", r.rule(64) ? "64" : "", r.rule(-1) ? "-1" : "",
    r.namespaceLabel("l") || "none", r.namespaceLabel("none") || "none",
  ].join("|"));
}

function show(v: Value): string {
  switch (v.tag) {
    case abi.TAG_NULL: return "null";
    case abi.TAG_FALSE: return "false";
    case abi.TAG_TRUE: return "true";
    case abi.TAG_INT: return "i" + v.int().toString();
    case abi.TAG_FLOAT: return "f" + v.float().toString();
    case abi.TAG_STRING: return '"' + v.text() + '"';
    case abi.TAG_JSON: return v.json().toString();
  }
  const items = v.items();
  let all = "[";
  for (let i = 0; i < items.length; i++) all += (i ? "," : "") + show(items[i]);
  return all + "]";
}

// What is kept must not change, whatever later hooks read.
function keep(r: Request): void {
  if (kept.length < 64) kept.push(r.get(images));
  let all = "";
  for (let i = 0; i < kept.length; i++) all += kept[i].texts().join("") + "|";
  r.audit("kept", all);
}

function user(r: Request): void {
  const extra = r.userExtra("scopes");
  r.warn(r.userGroups().join(",") + " " + (extra ? extra.join(",") : "none") + " " + (r.userExtra("none") ? "some" : "none"));
}

function lookups(r: Request): void {
  const space = lookup("v1/Namespace", "", "red", "metadata.labels.tier");
  if (forgive(abi.EIO)) {
    r.warn("not yet");
    return;
  }
  const whole = lookup("apps/v1/Deployment", "red", "web", "");
  const none = lookup("v1/Namespace", "", "none", "metadata.name");
  const list = lookupList("apps/v1/Deployment", "", "app in (web,db),!old", "metadata.name");
  const names: string[] = [];
  for (let i = 0; i < list.length; i++) names.push(list[i].text());
  r.warn((space ? space.text() : "none") + " " + (whole ? whole.json().get("kind").text() : "none") + " " +
    (none ? "some" : "none") + " " + names.join(","));
  if (r.namespace == "secret") lookup("v1/Secret", "", "s", "");
}

function state(r: Request): void {
  const before = getStateText("count") || "0";
  setStateText("count", (I64.parseInt(before) + 1).toString());
  setState("gone", new StaticArray<u8>(0));
  r.warn(before + " " + (getStateText("count") || "none") + " " + (getState("gone") ? "some" : "none"));
  if (r.user == "large") setState("large", new StaticArray<u8>(65537));
}

function decode(r: Request): void {
  const bytes = getState("value");
  const v = bytes ? Value.decode(bytes) : null;
  setStateText("shown", v ? show(v) : "malformed");
}

function core(r: Request): void {
  log(abi.LOG_WARN, "hello\n");
  const a = random(5000);
  let zeros = 0;
  for (let i = 0; i < a.length; i++) if (!a[i]) zeros++;
  r.warn(now().toString() + " " + text + " " + number.toString() + " " + (zeros < 100 ? "random" : "zeros"));
}

function refuse(r: Request): void {
  r.warn("careful");
  r.audit("key", "value");
  r.deny("first");
  r.deny("spec.replicas: 3 is odd; use 2 \u00fc\u{1f40b}", 422);
}

function giveUp(r: Request): void {
  fail("first");
  fail("second");
  r.deny("no");
  if (!failed() || !r.get(name).isNull || r.user.length) throw new Error("something was read after the failure");
}

function mutate(r: Request): void {
  const what = r.name;
  if (what == "all") everything(r);
  else if (what == "any") r.set(any, SINGLE, new ValueWriter().list(2).text("a").list(4).null().bool(true).int(i64.MIN_VALUE).float(1.5));
  else if (what == "text") r.setText(any, SINGLE, r.get(any).text());
  else if (what == "denied") denied(r);
  else if (what == "ungranted") r.setText(name, SINGLE, "x");
  else if (what == "no element") r.setText(images, 9, "x");
  else if (what == "no index") r.setText(images, SINGLE, "x");
  else if (what == "malformed") r.set(any, SINGLE, new ValueWriter().list(2).null());
}

function everything(r: Request): void {
  r.setInt(replicas, SINGLE, 2);
  r.setText(images, 1, "b:1");
  r.setJson(labels, SINGLE, new JsonWriter().object().key("x").text("y").end().toJson());
  r.remove(ports, 2);
  r.appendText(finalizers, SINGLE, "f");
  r.appendJson(finalizers, SINGLE, Json.parse(' {"a": [1, null]} ')!);
  r.append(finalizers, SINGLE, new ValueWriter().bool(false));
  r.setBool(any, SINGLE, true);
}

function denied(r: Request): void {
  r.setInt(replicas, SINGLE, 2);
  r.deny("no");
}
