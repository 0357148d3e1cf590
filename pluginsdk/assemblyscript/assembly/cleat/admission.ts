// The extension point admission: allow, deny or change a request to the API
// server.

import * as abi from "./abi";
import * as host from "./host";
import { Json } from "./json";
import { onInit } from "./plugin";
import { Value, ValueWriter } from "./value";

/** The index for a path without [*]. */
export const SINGLE: i32 = -1;

let paths: Path[] = [];

/**
 * A field path, known to the host from the start of the plugin:
 * spec.containers[*].image, metadata.labels['a.b/c']. Make it where module
 * variables are set; one that is made later is of no use.
 */
export class Path {
  /** The number the host knows the path by. */
  id: i32 = abi.EINVAL;

  constructor(
    /** The path as it was given. */
    readonly text: string,
  ) {
    paths.push(this);
  }
}

onInit(registerPaths);

function registerPaths(): void {
  for (let i = 0; i < paths.length; i++) {
    const p = paths[i];
    p.id = abi.path_register(host.first(p.text), host.size);
    if (p.id < 0) {
      const why = abi.errnoText(p.id);
      host.failure(p.id, "field path " + p.text + ": " + why + "; list it under read_paths or write_paths of the manifest");
      return;
    }
  }
}

/** Decides one request. */
export type Handler = (request: Request) => void;

let mutateHandler: Handler | null = null;
let validateHandler: Handler | null = null;

/** Makes handler the plugin's cleat_admission_mutate: it may change the object, or deny. */
export function onMutate(handler: Handler): void {
  mutateHandler = handler;
}

/** Makes handler the plugin's cleat_admission_validate: it may deny. */
export function onValidate(handler: Handler): void {
  validateHandler = handler;
}

/** A plugin whose manifest says admission.mutate exports it. */
export function cleat_admission_mutate(handle: i32, rules: i64): i32 {
  return decide(mutateHandler, handle, rules);
}

/** A plugin whose manifest says admission.validate exports it. */
export function cleat_admission_validate(handle: i32, rules: i64): i32 {
  return decide(validateHandler, handle, rules);
}

function decide(handler: Handler | null, handle: i32, rules: i64): i32 {
  if (!handler) {
    host.failure(abi.ENOTSUP, "no handler is registered; call onMutate or onValidate");
    return host.outcome(abi.ENOTSUP);
  }
  request.begin(handle, rules);
  handler(request);
  return host.outcome(request.isDenied ? abi.DENY : abi.ALLOW);
}

/**
 * The request a handler decides, valid until the handler returns.
 *
 * The first host function that fails is remembered: what is read from then on is
 * absent or empty, and the hook ends as an error of the plugin instead of a
 * verdict. Handlers need not check.
 */
export class Request {
  private handle: i32 = 0;
  private rules: u64 = 0;
  private denied: bool = false;
  private writer: ValueWriter = new ValueWriter();

  /** Begins with another request; for the SDK. */
  begin(handle: i32, rules: u64): void {
    this.handle = handle;
    this.rules = rules;
    this.denied = false;
  }

  /** Whether deny was called. */
  get isDenied(): bool {
    return this.denied;
  }

  /** Whether match rule n of the manifest, from 0, matched. */
  rule(n: i32): bool {
    return n >= 0 && n < 64 && ((this.rules >> n) & 1) == 1;
  }

  /**
   * The value at a path, as the hook found it; null when it is absent. A path
   * with [*] gives a list, with null where an element lacks the member.
   */
  get(path: Path): Value {
    if (host.failed()) return Value.NULL;
    let n: i32;
    host.begin();
    do n = abi.object_get(this.handle, path.id, host.room, host.limit); while (host.again(n));
    return value(n, "get", path.text);
  }

  /**
   * Sets the value at a write path. For a path with [*], index is the position
   * in the list that get returns; for any other it is SINGLE. Mutations are made
   * in order once the handler has returned without denial or failure.
   */
  set(path: Path, index: i32, value: ValueWriter): void {
    host.check(abi.object_set(this.handle, path.id, index, value.at, value.size), "set", path.text);
  }

  /** set for a string. */
  setText(path: Path, index: i32, text: string): void {
    this.set(path, index, this.writer.clear().text(text));
  }

  /** set for an integer. */
  setInt(path: Path, index: i32, n: i64): void {
    this.set(path, index, this.writer.clear().int(n));
  }

  /** set for a boolean. */
  setBool(path: Path, index: i32, b: bool): void {
    this.set(path, index, this.writer.clear().bool(b));
  }

  /** set for any value, as JSON. */
  setJson(path: Path, index: i32, json: Json): void {
    this.set(path, index, this.writer.clear().json(json));
  }

  /**
   * Removes the member at a write path or, when the path ends in [*], the
   * element. Positions count in the object as get shows it.
   */
  remove(path: Path, index: i32): void {
    host.check(abi.object_remove(this.handle, path.id, index), "remove", path.text);
  }

  /** Appends an element to the list at a write path. */
  append(path: Path, index: i32, value: ValueWriter): void {
    host.check(abi.object_append(this.handle, path.id, index, value.at, value.size), "append to", path.text);
  }

  /** append for a string. */
  appendText(path: Path, index: i32, text: string): void {
    this.append(path, index, this.writer.clear().text(text));
  }

  /** append for any value, as JSON. */
  appendJson(path: Path, index: i32, json: Json): void {
    this.append(path, index, this.writer.clear().json(json));
  }

  /** CREATE, UPDATE, DELETE or CONNECT. */
  get operation(): string {
    return this.field(abi.REQUEST_OPERATION);
  }

  /** The API group, "" for the core group. */
  get group(): string {
    return this.field(abi.REQUEST_GROUP);
  }

  /** The API version. */
  get version(): string {
    return this.field(abi.REQUEST_VERSION);
  }

  /** The kind of the object. */
  get kind(): string {
    return this.field(abi.REQUEST_KIND);
  }

  /** The resource, "pods" for example. */
  get resource(): string {
    return this.field(abi.REQUEST_RESOURCE);
  }

  /** The subresource, "" if there is none. */
  get subresource(): string {
    return this.field(abi.REQUEST_SUBRESOURCE);
  }

  /** The namespace, "" for a cluster-scoped object. */
  get namespace(): string {
    return this.field(abi.REQUEST_NAMESPACE);
  }

  /** The object's name, "" when the server is to generate it. */
  get name(): string {
    return this.field(abi.REQUEST_NAME);
  }

  /** The name of the user who asks. */
  get user(): string {
    return this.field(abi.REQUEST_USER);
  }

  /** The unique id of the user who asks, "" if there is none. It needs ABI 1.1. */
  get userUid(): string {
    return this.field(abi.REQUEST_USER_UID);
  }

  /** Whether nothing will be stored. */
  get dryRun(): bool {
    return this.field(abi.REQUEST_DRY_RUN) == "true";
  }

  /** The request's id, as it appears in logs and audit events. */
  get id(): string {
    return this.field(abi.REQUEST_ID);
  }

  private field(number: i32): string {
    if (host.failed()) return "";
    let n: i32;
    host.begin();
    do n = abi.request_get(this.handle, number, host.room, host.limit); while (host.again(n));
    return host.checkAnswer(n, "request field", number.toString()) ? host.answerText(n) : "";
  }

  /** The groups of the user who asks. It needs ABI 1.1. */
  userGroups(): string[] {
    if (host.failed()) return [];
    let n: i32;
    host.begin();
    do n = abi.user_groups_get(this.handle, host.room, host.limit); while (host.again(n));
    return value(n, "user groups", "").texts();
  }

  /**
   * What the authenticator adds to the user under a key; null when it adds
   * nothing there. It needs ABI 1.1.
   */
  userExtra(key: string): string[] | null {
    if (host.failed()) return null;
    let n: i32;
    host.begin();
    do n = abi.user_extra_get(this.handle, host.first(key), host.size, host.room, host.limit); while (host.again(n));
    return n == abi.ENOENT ? null : value(n, "user extra", key).texts();
  }

  /** The value of a label of the request's namespace; null when there is none. */
  namespaceLabel(key: string): string | null {
    if (host.failed()) return null;
    let n: i32;
    host.begin();
    do n = abi.namespace_label_get(this.handle, host.first(key), host.size, host.room, host.limit); while (host.again(n));
    return n != abi.ENOENT && host.checkAnswer(n, "namespace label", key) ? host.answerText(n) : null;
  }

  /**
   * The whole object; null when it is absent. A plugin that calls it imports, and
   * must declare, the capability cleat_object_json_v1.
   */
  object(): Json {
    return this.whole(abi.OBJECT_NEW);
  }

  /** object for the object as stored, on UPDATE and DELETE. */
  oldObject(): Json {
    return this.whole(abi.OBJECT_OLD);
  }

  private whole(which: i32): Json {
    if (host.failed()) return Json.NULL;
    let n: i32;
    host.begin();
    do n = abi.object_json(this.handle, which, host.room, host.limit); while (host.again(n));
    if (!host.checkAnswer(n, "object as JSON")) return Json.NULL;
    return Json.of(host.answer(n), "the object");
  }

  /**
   * Refuses the request. The message names the field, the value and the way out;
   * a later call replaces it. status is an HTTP status, 400 to 599.
   */
  deny(message: string, status: i32 = 0): void {
    this.denied = true;
    host.check(abi.deny(this.handle, host.first(message), host.size, status), "deny");
  }

  /** Adds a warning the client shows, on one line. */
  warn(text: string): void {
    host.check(abi.warn(this.handle, host.first(text), host.size), "warn");
  }

  /** Adds an annotation to the audit event, under the plugin's name. */
  audit(key: string, value: string): void {
    host.check(
      abi.audit(this.handle, host.first(key), host.size, host.next(value), host.size),
      "audit annotation", key,
    );
  }
}

// One request serves every call: an instance runs one hook at a time.
const request = new Request();

/** The value the host answered with. */
function value(n: i32, what: string, detail: string): Value {
  if (!host.checkAnswer(n, what, detail)) return Value.NULL;
  if (n == 1 && load<u8>(host.room) == abi.TAG_NULL) return Value.NULL;
  const v = Value.decode(host.answer(n));
  if (v) return v;
  host.check(abi.EIO, what, detail);
  return Value.NULL;
}
