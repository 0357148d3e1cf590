#include "internal.h"

bool cleat_lookup(cleat_call *call, cleat_str kind, cleat_str namespace_, cleat_str name,
                  cleat_str path, cleat_value *value) {
    *value = (cleat_value){0};
    if (call->error != 0)
        return false;
    cleat_buffer b = cleat_buffer_for(1024);
    while (cleat_buffer_again(
        &b, cleat_host_lookup_get(kind.ptr, kind.len, namespace_.ptr, namespace_.len, name.ptr,
                                  name.len, path.ptr, path.len, b.ptr, b.limit)))
        ;
    if (b.result == CLEAT_ENOENT)
        return false;
    *value = cleat_buffer_value(call, &b, CLEAT_STR("look up"), kind);
    return call->error == 0;
}

cleat_value cleat_lookup_list(cleat_call *call, cleat_str kind, cleat_str namespace_,
                              cleat_str selector, cleat_str path) {
    if (call->error != 0)
        return (cleat_value){0};
    cleat_buffer b = cleat_buffer_for(4096);
    while (cleat_buffer_again(
        &b, cleat_host_lookup_list(kind.ptr, kind.len, namespace_.ptr, namespace_.len, selector.ptr,
                                   selector.len, path.ptr, path.len, b.ptr, b.limit)))
        ;
    return cleat_buffer_value(call, &b, CLEAT_STR("look up"), kind);
}

bool cleat_state_get(cleat_call *call, cleat_str key, cleat_str *value) {
    *value = CLEAT_STR("");
    if (call->error != 0)
        return false;
    cleat_buffer b = cleat_buffer_for(512);
    while (cleat_buffer_again(&b, cleat_host_kv_get(key.ptr, key.len, b.ptr, b.limit)))
        ;
    if (b.result == CLEAT_ENOENT)
        return false;
    *value = cleat_buffer_text(&b);
    return cleat_check(call, b.result, CLEAT_STR("state"), key);
}

void cleat_state_set(cleat_call *call, cleat_str key, cleat_str value) {
    if (call->error == 0)
        cleat_check(call, cleat_host_kv_set(key.ptr, key.len, value.ptr, value.len),
                    CLEAT_STR("state"), key);
}
