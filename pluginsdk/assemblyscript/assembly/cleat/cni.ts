// The extension point cni: how the pods of a node reach each other.

import { Handler, serve } from "./plan";

let handler: Handler | null = null;

/** Makes plan the plugin's decision: CNIRequest in, CNIPlan out. */
export function onPlan(plan: Handler): void {
  handler = plan;
}

/** A plugin of the point cni exports it. */
export function cleat_cni_plan(): i32 {
  return serve(handler);
}
