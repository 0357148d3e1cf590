// The extension point deployer: what a file of the manifests directory holds.

import { Handler, serve } from "./plan";

let handler: Handler | null = null;

/** Makes render the plugin's decision: DeployRequest in, DeployResult out. */
export function onRender(render: Handler): void {
  handler = render;
}

/** A plugin of the point deployer exports it. */
export function cleat_deployer_render(): i32 {
  return serve(handler);
}
