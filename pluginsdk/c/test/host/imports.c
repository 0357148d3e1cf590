// The host functions of log, plan, object and request.
#include "host.h"

int32_t cleat_host_log(int32_t level, const void *ptr, uint32_t len) {
    if (level < CLEAT_LOG_DEBUG || level > CLEAT_LOG_ERROR)
        return CLEAT_EINVAL;
    host_put_words(&host.logs, "log ");
    host_put(&host.logs, host_cut(ptr, len, CLEAT_LIMIT_LOG));
    host_put_words(&host.logs, "\n");
    return 0;
}

int32_t cleat_host_input_get(void *buf, uint32_t limit) {
    return host.planning ? host_fill(buf, limit, host.input) : CLEAT_ENOTSUP;
}

int32_t cleat_host_output_set(const void *ptr, uint32_t len) {
    cleat_json v;
    if (!host.planning)
        return CLEAT_ENOTSUP;
    if (len > CLEAT_LIMIT_MESSAGE)
        return CLEAT_E2BIG;
    if (!cleat_json_parse((cleat_str){ptr, len}, &v))
        return CLEAT_EINVAL;
    host_clear(&host.output);
    host_put(&host.output, v.text);
    host.has_output = true;
    return 0;
}

int32_t cleat_host_error_set(const void *ptr, uint32_t len) {
    host_clear(&host.error);
    host_put(&host.error, host_cut(ptr, len, CLEAT_LIMIT_TEXT));
    return 0;
}

int32_t cleat_host_config_get(void *buf, uint32_t limit) {
    return host_fill(buf, limit, host_str(&host.config));
}

int64_t cleat_host_now(void) { return cleat_test.now; }

int32_t cleat_host_random(void *buf, uint32_t limit) {
    char *bytes = buf;
    if (limit > CLEAT_LIMIT_RANDOM)
        return CLEAT_E2BIG;
    for (uint32_t i = 0; i < limit; i++) {
        host.random = host.random * UINT64_C(6364136223846793005) + 1;
        bytes[i] = (char)(host.random >> 56);
    }
    return (int32_t)limit;
}

int32_t cleat_host_path_register(const void *ptr, uint32_t len) {
    host_path path, known;
    if (!host_allows("cleat_object_v1"))
        return CLEAT_EACCES;
    if (!host.starting)
        return CLEAT_ENOTSUP;
    if (!host_parse_path((cleat_str){ptr, len}, &path))
        return CLEAT_EINVAL;
    if (!host_covered("read_paths", &path) && !host_covered("write_paths", &path))
        return CLEAT_EACCES;
    for (int32_t id = 0; id < host.path_count; id++) {
        if (host_parse_path(host_str(&host.paths[id]), &known) && host_path_equal(&known, &path))
            return id;
    }
    if (host.path_count == CLEAT_LIMIT_PATHS)
        return CLEAT_E2BIG;
    host_put(&host.paths[host.path_count], (cleat_str){ptr, len});
    return host.path_count++;
}

// Returns a registered path, or what is wrong with handle and id.
static int32_t registered(int32_t handle, int32_t id, host_path *path) {
    if (host.request == NULL || handle != HOST_HANDLE)
        return CLEAT_EBADF;
    if (id < 0 || id >= host.path_count)
        return CLEAT_EINVAL;
    return host_parse_path(host_str(&host.paths[id]), path) ? 0 : CLEAT_EINVAL;
}

int32_t cleat_host_object_get(int32_t handle, int32_t path_id, void *buf, uint32_t limit) {
    host_path path;
    cleat_writer w = {0};
    uint32_t count;
    int32_t n = registered(handle, path_id, &path);
    if (n < 0)
        return n;
    if (!host_covered("read_paths", &path))
        return CLEAT_EACCES;
    if (!host_value_at(host.object, &path, &w, &count))
        return CLEAT_E2BIG;
    return host_fill(buf, limit, cleat_written(&w));
}

// Records a mutation; encoded is NULL for a removal.
static int32_t mutate(const char *what, int32_t handle, int32_t id, int32_t index,
                      const cleat_str *encoded) {
    host_path path;
    cleat_writer w = {0}, json = {0};
    uint32_t count;
    int32_t n = registered(handle, id, &path);
    if (n < 0)
        return n;
    if (!host.mutating)
        return CLEAT_ENOTSUP;
    if (!host_covered("write_paths", &path))
        return CLEAT_EACCES;
    if (index < -1 || (index == -1) == host_path_has_each(&path))
        return CLEAT_EINVAL;
    if (!host_value_at(host.object, &path, &w, &count))
        return CLEAT_E2BIG;
    if (index >= 0 && (uint32_t)index >= count)
        return CLEAT_ENOENT;
    if (host.mutation_count == CLEAT_LIMIT_MUTATIONS)
        return CLEAT_E2BIG;
    cleat_str line = cleat_concat(cleat_str_of(what), CLEAT_STR(" "), host_str(&host.paths[id]));
    if (index >= 0)
        line = cleat_concat(line, CLEAT_STR(" "), cleat_decimal(index));
    if (encoded != NULL) {
        cleat_value v;
        cleat_str rest;
        if (!cleat_value_parse(*encoded, &v, &rest) || rest.len > 0 || !host_value_json(v, &json))
            return CLEAT_EINVAL;
        line = cleat_concat(line, CLEAT_STR(" "), cleat_written(&json));
    }
    host_put(&host.mutations, cleat_concat(line, CLEAT_STR("\n")));
    host.mutation_count++;
    return 0;
}

int32_t cleat_host_object_set(int32_t handle, int32_t path_id, int32_t index, const void *ptr,
                              uint32_t len) {
    return mutate("set", handle, path_id, index, &(cleat_str){ptr, len});
}

int32_t cleat_host_object_remove(int32_t handle, int32_t path_id, int32_t index) {
    return mutate("remove", handle, path_id, index, NULL);
}

int32_t cleat_host_object_append(int32_t handle, int32_t path_id, int32_t index, const void *ptr,
                                 uint32_t len) {
    return mutate("append", handle, path_id, index, &(cleat_str){ptr, len});
}

int32_t cleat_host_object_json(int32_t handle, int32_t which, void *buf, uint32_t limit) {
    if (!host_allows("cleat_object_json_v1"))
        return CLEAT_EACCES;
    if (host.request == NULL || handle != HOST_HANDLE)
        return CLEAT_EBADF;
    if (which != CLEAT_OBJECT_NEW && which != CLEAT_OBJECT_OLD)
        return CLEAT_EINVAL;
    cleat_str text = which == CLEAT_OBJECT_NEW ? host.object.text : host.old_object.text;
    return host_fill(buf, limit, text.len > 0 ? text : CLEAT_STR("null"));
}

// Says what is wrong with a function of the request, 0 when it may be called.
static int32_t in_request(int32_t handle) {
    if (!host_allows("cleat_request_v1"))
        return CLEAT_EACCES;
    return host.request == NULL || handle != HOST_HANDLE ? CLEAT_EBADF : 0;
}

int32_t cleat_host_request_get(int32_t handle, int32_t field, void *buf, uint32_t limit) {
    const cleat_test_request *r = host.request;
    int32_t n = in_request(handle);
    if (n < 0)
        return n;
    const char *fields[] = {
        [CLEAT_REQUEST_OPERATION] = r->operation != NULL ? r->operation : "CREATE",
        [CLEAT_REQUEST_GROUP] = r->group,
        [CLEAT_REQUEST_VERSION] = r->version != NULL ? r->version : "v1",
        [CLEAT_REQUEST_KIND] = r->kind,
        [CLEAT_REQUEST_RESOURCE] = r->resource,
        [CLEAT_REQUEST_SUBRESOURCE] = r->subresource,
        [CLEAT_REQUEST_NAMESPACE] = r->namespace_,
        [CLEAT_REQUEST_NAME] = r->name,
        [CLEAT_REQUEST_USER] = r->user,
        [CLEAT_REQUEST_DRY_RUN] = r->dry_run ? "true" : "false",
        [CLEAT_REQUEST_ID] = r->id,
        [CLEAT_REQUEST_USER_UID] = r->user_uid,
    };
    if (field < 0 || (size_t)field >= sizeof fields / sizeof fields[0])
        return CLEAT_EINVAL;
    return host_fill(buf, limit, cleat_str_of(fields[field] != NULL ? fields[field] : ""));
}

// Returns a member of an object that a test gave as text.
static cleat_json member(const char *object, cleat_str key) {
    cleat_json v = {0};
    if (object != NULL)
        cleat_json_parse(cleat_str_of(object), &v);
    return cleat_json_get(v, key);
}

int32_t cleat_host_namespace_label_get(int32_t handle, const void *ptr, uint32_t len, void *buf,
                                       uint32_t limit) {
    int32_t n = in_request(handle);
    if (n < 0)
        return n;
    cleat_json v = member(host.request->namespace_labels, (cleat_str){ptr, len});
    return v.text.len == 0 ? CLEAT_ENOENT : host_fill(buf, limit, cleat_json_text(v));
}

static int32_t fill_value(void *buf, uint32_t limit, cleat_json v) {
    cleat_writer w = {0};
    return host_encode(v, &w) ? host_fill(buf, limit, cleat_written(&w)) : CLEAT_E2BIG;
}

int32_t cleat_host_user_groups_get(int32_t handle, void *buf, uint32_t limit) {
    cleat_json groups;
    int32_t n = in_request(handle);
    if (n < 0)
        return n;
    const char *text = host.request->user_groups;
    if (!cleat_json_parse(cleat_str_of(text != NULL ? text : "[]"), &groups))
        return CLEAT_EIO;
    return fill_value(buf, limit, groups);
}

int32_t cleat_host_user_extra_get(int32_t handle, const void *ptr, uint32_t len, void *buf,
                                  uint32_t limit) {
    int32_t n = in_request(handle);
    if (n < 0)
        return n;
    cleat_json v = member(host.request->user_extra, (cleat_str){ptr, len});
    return v.text.len == 0 ? CLEAT_ENOENT : fill_value(buf, limit, v);
}

int32_t cleat_host_deny(int32_t handle, const void *ptr, uint32_t len, int32_t code) {
    int32_t n = in_request(handle);
    if (n < 0)
        return n;
    if (code != 0 && (code < 400 || code > 599))
        return CLEAT_EINVAL;
    host_clear(&host.deny);
    host_put(&host.deny, host_cut(ptr, len, CLEAT_LIMIT_TEXT));
    host.deny_code = code == 0 ? 403 : code;
    return 0;
}

int32_t cleat_host_warn(int32_t handle, const void *ptr, uint32_t len) {
    int32_t n = in_request(handle);
    if (n < 0)
        return n;
    if (host.warnings == CLEAT_LIMIT_WARNINGS)
        return CLEAT_E2BIG;
    host.warnings++;
    host_put(&host.notes, cleat_concat(CLEAT_STR("warn "), host_cut(ptr, len, CLEAT_LIMIT_TEXT),
                                       CLEAT_STR("\n")));
    return 0;
}

int32_t cleat_host_audit(int32_t handle, const void *key_ptr, uint32_t key_len, const void *value_ptr,
                         uint32_t value_len) {
    int32_t n = in_request(handle);
    if (n < 0)
        return n;
    if (host.annotations == CLEAT_LIMIT_WARNINGS)
        return CLEAT_E2BIG;
    host.annotations++;
    host_put(&host.notes,
             cleat_concat(CLEAT_STR("audit "), (cleat_str){key_ptr, key_len}, CLEAT_STR(" = "),
                          host_cut(value_ptr, value_len, CLEAT_LIMIT_TEXT), CLEAT_STR("\n")));
    return 0;
}
