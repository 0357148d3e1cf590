// What a plugin may ask of the cluster: objects by kind, and its own small state. It needs ABI 1.1.
#ifndef CLEAT_CLUSTER_H
#define CLEAT_CLUSTER_H

#include "guest.h"
#include "value.h"

// Reads the value at a field path of an object, or of all of it when path is empty. kind is
// version/Kind or group/version/Kind. It is false when there is no such object.
bool cleat_lookup(cleat_call *call, cleat_str kind, cleat_str namespace_, cleat_str name,
                  cleat_str path, cleat_value *value);

// Returns the value at a field path of every object of a kind, a list. An empty namespace is all;
// selector is one as kubectl writes it, empty for all.
cleat_value cleat_lookup_list(cleat_call *call, cleat_str kind, cleat_str namespace_,
                              cleat_str selector, cleat_str path);

// Reads a value of the plugin's state; false when there is none.
bool cleat_state_get(cleat_call *call, cleat_str key, cleat_str *value);

// Records a value, which is stored once the hook has decided. An empty one removes the key.
void cleat_state_set(cleat_call *call, cleat_str key, cleat_str value);

#endif
