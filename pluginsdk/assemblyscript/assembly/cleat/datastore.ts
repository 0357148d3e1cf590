// The extension point datastore: where cluster state lives.

import { Handler, serve } from "./plan";

let handler: Handler | null = null;

/** Makes plan the plugin's decision: DatastoreRequest in, DatastorePlan out. */
export function onPlan(plan: Handler): void {
  handler = plan;
}

/** A plugin of the point datastore exports it. */
export function cleat_datastore_plan(): i32 {
  return serve(handler);
}
