// The extension points that plan: datastore, cni and deployer. JSON in, JSON out.
#ifndef CLEAT_PLAN_H
#define CLEAT_PLAN_H

#include "guest.h"

// Define the hooks; handler is a function void handler(cleat_call *), which calls cleat_output,
// cleat_not_mine or cleat_fail.
#define CLEAT_DATASTORE(handler)                                                                   \
    int32_t cleat_datastore_plan(void) { return cleat_run_plan(handler); }
#define CLEAT_CNI(handler)                                                                         \
    int32_t cleat_cni_plan(void) { return cleat_run_plan(handler); }
#define CLEAT_DEPLOYER(handler)                                                                    \
    int32_t cleat_deployer_render(void) { return cleat_run_plan(handler); }
int32_t cleat_run_plan(void (*handler)(cleat_call *call));

// Returns the input of the hook, an object.
cleat_json cleat_input(cleat_call *call);

// Sets the result of the hook, JSON text. A later call replaces it.
void cleat_output(cleat_call *call, cleat_str json);

// Leaves the input to another plugin.
void cleat_not_mine(cleat_call *call);

// Parses YAML or JSON documents in the host and returns them as an array, null for an empty one.
// When it fails, the host's own message is the hook's error.
cleat_json cleat_render_yaml(cleat_call *call, cleat_str text);

// Render a Helm chart, or build a kustomization, in the host: HelmRequest or KustomizeRequest in,
// HelmResult or an array of objects out. Errors are as those of cleat_render_yaml. They need ABI 1.1.
cleat_json cleat_render_helm(cleat_call *call, cleat_str request);
cleat_json cleat_render_kustomize(cleat_call *call, cleat_str request);

#endif
