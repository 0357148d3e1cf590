// Tests of a plugin, natively: a host that holds the manifest. What is not declared is refused, and
// a request that matches no rule does not enter the plugin.
//
//   int main(void) {
//       CLEAT_EXPECT(cleat_test_start("manifest.json", "{}"), "started\n");
//       cleat_test_request pod = {.resource = "pods", .object = "{\"spec\":{}}"};
//       CLEAT_EXPECT(cleat_test_validate(&pod), "deny 403 spec: is empty\n");
//       return cleat_test_done();
//   }
//
// What a hook did is text, one line for each thing:
//
//   allow | deny CODE MESSAGE | not entered | output JSON | not mine | error TEXT
//   warn TEXT
//   audit KEY = TEXT
//   set PATH [INDEX] JSON | remove PATH [INDEX] | append PATH [INDEX] JSON
//   state KEY = TEXT
//   log TEXT
//
// What it cannot show is left to the real host: match conditions count as true, a deployer is
// offered every file, YAML is read only where it is JSON, and Helm and Kustomize do not run.
#ifndef CLEAT_TEST_H
#define CLEAT_TEST_H

#include <stdbool.h>
#include <stdint.h>

// An API request. A field that is NULL is empty; operation is then CREATE and version v1.
typedef struct cleat_test_request {
    const char *operation, *group, *version, *kind, *resource, *subresource;
    const char *namespace_, *name, *id, *user, *user_uid;
    bool dry_run;
    const char *user_groups;      // JSON, a list of strings
    const char *user_extra;       // JSON, an object of such lists
    const char *namespace_labels; // JSON, an object of strings
    const char *object, *old_object;
} cleat_test_request;

// What is around the plugin; a test may set it.
typedef struct cleat_test_surroundings {
    int64_t now;           // nanoseconds since 1970
    const char *objects;   // JSON, a list: what lookups find in the cluster
    int32_t cluster_error; // what lookups and state answer unless 0, such as CLEAT_EIO
    const char *yaml;      // what render_yaml answers instead of reading the text
    const char *helm;      // what render_helm answers; NULL = ENOTSUP
    const char *kustomize; // what render_kustomize answers; NULL = ENOTSUP
} cleat_test_surroundings;
extern cleat_test_surroundings cleat_test;

// Starts the plugin with a configuration as JSON, over the defaults of the manifest: "started" or
// "error TEXT". It may be called again, for another configuration; the plugin's state is empty then.
const char *cleat_test_start(const char *manifest_file, const char *config);

// Run a hook and say what it did. The text is valid until the next call.
const char *cleat_test_validate(const cleat_test_request *request);
const char *cleat_test_mutate(const cleat_test_request *request);
const char *cleat_test_datastore(const char *input);
const char *cleat_test_cni(const char *input);
const char *cleat_test_deploy(const char *input);

// Is cleat_test_deploy for a text file.
const char *cleat_test_deploy_file(const char *name, const char *content);

// Compares two texts and, when they differ, says where and how.
#define CLEAT_EXPECT(got, want) cleat_test_expect(__FILE__, __LINE__, (got), (want))
void cleat_test_expect(const char *file, int line, const char *got, const char *want);

// Says how many expectations held; the result is that of main.
int cleat_test_done(void);

#endif
