// The extension point admission: allow, deny or change a request to the API server.
#ifndef CLEAT_ADMISSION_H
#define CLEAT_ADMISSION_H

#include "guest.h"
#include "value.h"

// Define the hooks; handler is a function void handler(cleat_call *). A hook allows the request
// unless its handler denies it or fails.
#define CLEAT_VALIDATE(handler)                                                                    \
    int32_t cleat_admission_validate(int32_t handle, uint64_t rules) {                             \
        return cleat_run_admission(handler, handle, rules);                                        \
    }
#define CLEAT_MUTATE(handler)                                                                      \
    int32_t cleat_admission_mutate(int32_t handle, uint64_t rules) {                               \
        return cleat_run_admission(handler, handle, rules);                                        \
    }
int32_t cleat_run_admission(void (*handler)(cleat_call *call), int32_t handle, uint64_t rules);

// A field path that the host knows.
typedef struct cleat_path {
    cleat_str text;
    int32_t id;
} cleat_path;

// Registers a path: spec.containers[*].image, metadata.labels['a.b/c']. It must be among the read or
// write paths of the manifest, or below one. Only start may call it. The text is not copied.
cleat_path cleat_register(cleat_call *call, cleat_str text);

// Reports whether match rule n of the manifest, from 0, matched.
static inline bool cleat_rule(const cleat_call *call, uint32_t n) {
    return n < 64 && (call->rules >> n & 1) == 1;
}

// Returns the value at a path as the hook found it; null when absent. A path with [*] gives a list.
cleat_value cleat_get(cleat_call *call, const cleat_path *path);

// Returns a field of the request as text; field is CLEAT_REQUEST_NAMESPACE or another.
cleat_str cleat_request(cleat_call *call, int32_t field);

// Reports whether nothing will be stored.
bool cleat_request_dry_run(cleat_call *call);

// Reads a label of the request's namespace; false when there is none.
bool cleat_namespace_label(cleat_call *call, cleat_str key, cleat_str *value);

// Returns the groups of the user who asks, a list of strings. It needs ABI 1.1.
cleat_value cleat_user_groups(cleat_call *call);

// Returns what the authenticator adds to the user under a key: a list of strings, null when it adds
// nothing. It needs ABI 1.1.
cleat_value cleat_user_extra(cleat_call *call, cleat_str key);

// Return the whole object of the request, and the one that is stored; JSON null when absent. They
// need the capability cleat_object_json_v1.
cleat_json cleat_object(cleat_call *call);
cleat_json cleat_old_object(cleat_call *call);

// Denies the request with status 403. The message names the field, the value and the way out. A
// later denial replaces it.
void cleat_deny(cleat_call *call, cleat_str message);

// Is cleat_deny with an HTTP status, 400 to 599.
void cleat_deny_status(cleat_call *call, int32_t status, cleat_str message);

// Adds a warning the client shows, on one line.
void cleat_warn(cleat_call *call, cleat_str text);

// Adds an annotation to the audit event, under the plugin's name.
void cleat_audit(cleat_call *call, cleat_str key, cleat_str value);

// The index for a path without [*].
#define CLEAT_SINGLE (-1)

// Set the value at a write path, in the mutating hook. For a path with [*], index is the position in
// the list that cleat_get returns; for any other it is CLEAT_SINGLE. Changes are made in order once
// the hook has allowed the request.
void cleat_set_bool(cleat_call *call, const cleat_path *path, int32_t index, bool b);
void cleat_set_int(cleat_call *call, const cleat_path *path, int32_t index, int64_t n);
void cleat_set_string(cleat_call *call, const cleat_path *path, int32_t index, cleat_str text);
void cleat_set_json(cleat_call *call, const cleat_path *path, int32_t index, cleat_str json);

// Sets a value that cleat_value_put_… wrote.
void cleat_set(cleat_call *call, const cleat_path *path, int32_t index, cleat_str encoded);

// Removes the member at a write path or, when the path ends in [*], the element.
void cleat_remove(cleat_call *call, const cleat_path *path, int32_t index);

// Append to the list at a write path.
void cleat_append_string(cleat_call *call, const cleat_path *path, int32_t index, cleat_str text);
void cleat_append_json(cleat_call *call, const cleat_path *path, int32_t index, cleat_str json);

// Appends a value that cleat_value_put_… wrote.
void cleat_append(cleat_call *call, const cleat_path *path, int32_t index, cleat_str encoded);

#endif
