// What the cold extension points (datastore, cni, deployer) share. They are
// asked seldom and speak JSON.

import * as abi from "./abi";
import * as host from "./host";
import { Json } from "./json";
import { JsonWriter } from "./jsonwriter";

/**
 * Decides one request: writes the plan and returns true, or returns false when
 * the request is for another plugin. After fail, or when a host function
 * failed, what it returns does not count.
 */
export type Handler = (request: Json, plan: JsonWriter) => bool;

/** Runs a plan hook. */
export function serve(handler: Handler | null): i32 {
  if (!handler) {
    host.failure(abi.ENOTSUP, "no handler is registered; register one with onPlan or onRender");
    return host.outcome(abi.ENOTSUP);
  }
  let n: i32;
  host.begin();
  do n = abi.input_get(host.room, host.limit); while (host.again(n));
  if (!host.checkAnswer(n, "read the request")) return host.outcome(n);
  const plan = new JsonWriter();
  const mine = handler(Json.of(host.answer(n), "the request"), plan);
  if (mine && !host.failed()) {
    plan.check();
    host.check(abi.output_set(plan.at, plan.size), "hand over the plan");
  }
  return host.outcomeOfPlan(mine ? abi.DECIDED : abi.NOT_MINE);
}
