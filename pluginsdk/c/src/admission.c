#include "internal.h"

int32_t cleat_run_admission(void (*handler)(cleat_call *call), int32_t handle, uint64_t rules) {
    cleat_memory_reset();
    cleat_call call = {.handle = handle, .rules = rules, .result = CLEAT_ALLOW};
    handler(&call);
    return call.error != 0 ? call.error : call.result;
}

cleat_path cleat_register(cleat_call *call, cleat_str text) {
    cleat_path path = {text, CLEAT_EINVAL};
    if (call->error != 0)
        return path;
    path.id = cleat_host_path_register(text.ptr, text.len);
    if (path.id < 0) {
        cleat_str why = cleat_str_of(cleat_errno_text(path.id));
        cleat_fail(call, cleat_concat(CLEAT_STR("field path "), text, CLEAT_STR(": "), why,
                                      CLEAT_STR("; list it under read_paths or write_paths of the manifest")));
        call->error = path.id;
    }
    return path;
}

cleat_value cleat_get(cleat_call *call, const cleat_path *path) {
    if (call->error != 0)
        return (cleat_value){0};
    cleat_buffer b = cleat_buffer_for(512);
    while (cleat_buffer_again(&b, cleat_host_object_get(call->handle, path->id, b.ptr, b.limit)))
        ;
    return cleat_buffer_value(call, &b, CLEAT_STR("get"), path->text);
}

cleat_str cleat_request(cleat_call *call, int32_t field) {
    if (call->error != 0)
        return CLEAT_STR("");
    cleat_buffer b = cleat_buffer_for(256);
    while (cleat_buffer_again(&b, cleat_host_request_get(call->handle, field, b.ptr, b.limit)))
        ;
    cleat_check(call, b.result, CLEAT_STR("request field"), cleat_decimal(field));
    return cleat_buffer_text(&b);
}

bool cleat_request_dry_run(cleat_call *call) {
    return cleat_str_equal(cleat_request(call, CLEAT_REQUEST_DRY_RUN), CLEAT_STR("true"));
}

bool cleat_namespace_label(cleat_call *call, cleat_str key, cleat_str *value) {
    *value = CLEAT_STR("");
    if (call->error != 0)
        return false;
    cleat_buffer b = cleat_buffer_for(64);
    while (cleat_buffer_again(&b, cleat_host_namespace_label_get(call->handle, key.ptr, key.len,
                                                                 b.ptr, b.limit)))
        ;
    if (b.result == CLEAT_ENOENT)
        return false;
    *value = cleat_buffer_text(&b);
    return cleat_check(call, b.result, CLEAT_STR("namespace label"), key);
}

cleat_value cleat_user_groups(cleat_call *call) {
    if (call->error != 0)
        return (cleat_value){0};
    cleat_buffer b = cleat_buffer_for(512);
    while (cleat_buffer_again(&b, cleat_host_user_groups_get(call->handle, b.ptr, b.limit)))
        ;
    return cleat_buffer_value(call, &b, CLEAT_STR("user groups"), CLEAT_STR(""));
}

cleat_value cleat_user_extra(cleat_call *call, cleat_str key) {
    if (call->error != 0)
        return (cleat_value){0};
    cleat_buffer b = cleat_buffer_for(256);
    while (cleat_buffer_again(
        &b, cleat_host_user_extra_get(call->handle, key.ptr, key.len, b.ptr, b.limit)))
        ;
    if (b.result == CLEAT_ENOENT)
        return (cleat_value){0};
    return cleat_buffer_value(call, &b, CLEAT_STR("user extra"), key);
}

static cleat_json object(cleat_call *call, int32_t which) {
    if (call->error != 0)
        return (cleat_json){0};
    cleat_buffer b = cleat_buffer_for(8192);
    while (cleat_buffer_again(&b, cleat_host_object_json(call->handle, which, b.ptr, b.limit)))
        ;
    return cleat_buffer_json(call, &b, CLEAT_STR("object as JSON"));
}

cleat_json cleat_object(cleat_call *call) { return object(call, CLEAT_OBJECT_NEW); }

cleat_json cleat_old_object(cleat_call *call) { return object(call, CLEAT_OBJECT_OLD); }

void cleat_deny(cleat_call *call, cleat_str message) { cleat_deny_status(call, 0, message); }

void cleat_deny_status(cleat_call *call, int32_t status, cleat_str message) {
    if (call->error != 0)
        return;
    call->result = CLEAT_DENY;
    cleat_check(call, cleat_host_deny(call->handle, message.ptr, message.len, status),
                CLEAT_STR("deny"), CLEAT_STR(""));
}

void cleat_warn(cleat_call *call, cleat_str text) {
    if (call->error == 0)
        cleat_check(call, cleat_host_warn(call->handle, text.ptr, text.len), CLEAT_STR("warn"),
                    CLEAT_STR(""));
}

void cleat_audit(cleat_call *call, cleat_str key, cleat_str value) {
    if (call->error == 0)
        cleat_check(call, cleat_host_audit(call->handle, key.ptr, key.len, value.ptr, value.len),
                    CLEAT_STR("audit annotation"), key);
}

void cleat_set(cleat_call *call, const cleat_path *path, int32_t index, cleat_str encoded) {
    if (call->error == 0)
        cleat_check(
            call, cleat_host_object_set(call->handle, path->id, index, encoded.ptr, encoded.len),
            CLEAT_STR("set"), path->text);
}

void cleat_set_bool(cleat_call *call, const cleat_path *path, int32_t index, bool b) {
    cleat_writer w = {0};
    cleat_value_put_bool(&w, b);
    cleat_set(call, path, index, cleat_written(&w));
}

void cleat_set_int(cleat_call *call, const cleat_path *path, int32_t index, int64_t n) {
    cleat_writer w = {0};
    cleat_value_put_int(&w, n);
    cleat_set(call, path, index, cleat_written(&w));
}

void cleat_set_string(cleat_call *call, const cleat_path *path, int32_t index, cleat_str text) {
    cleat_writer w = {0};
    cleat_value_put_string(&w, text);
    cleat_set(call, path, index, cleat_written(&w));
}

void cleat_set_json(cleat_call *call, const cleat_path *path, int32_t index, cleat_str json) {
    cleat_writer w = {0};
    cleat_value_put_json(&w, json);
    cleat_set(call, path, index, cleat_written(&w));
}

void cleat_remove(cleat_call *call, const cleat_path *path, int32_t index) {
    if (call->error == 0)
        cleat_check(call, cleat_host_object_remove(call->handle, path->id, index),
                    CLEAT_STR("remove"), path->text);
}

void cleat_append(cleat_call *call, const cleat_path *path, int32_t index, cleat_str encoded) {
    if (call->error == 0)
        cleat_check(
            call, cleat_host_object_append(call->handle, path->id, index, encoded.ptr, encoded.len),
            CLEAT_STR("append to"), path->text);
}

void cleat_append_string(cleat_call *call, const cleat_path *path, int32_t index, cleat_str text) {
    cleat_writer w = {0};
    cleat_value_put_string(&w, text);
    cleat_append(call, path, index, cleat_written(&w));
}

void cleat_append_json(cleat_call *call, const cleat_path *path, int32_t index, cleat_str json) {
    cleat_writer w = {0};
    cleat_value_put_json(&w, json);
    cleat_append(call, path, index, cleat_written(&w));
}
