// The host functions of render, lookup and state.
#include "host.h"

// Answers with a text of the test.
static int32_t answer(const char *text, void *buf, uint32_t limit) {
    if (!host_allows("cleat_render_v1"))
        return CLEAT_EACCES;
    return text == NULL ? CLEAT_ENOTSUP : host_fill(buf, limit, cleat_str_of(text));
}

// Returns where the next document ends: at a line that begins with three dashes.
static uint32_t document_end(cleat_str text) {
    for (uint32_t i = 0; i < text.len; i++) {
        if ((i == 0 || text.ptr[i - 1] == '\n') &&
            cleat_str_has_prefix(cleat_str_from(text, i), CLEAT_STR("---")))
            return i;
    }
    return text.len;
}

static bool blank(cleat_str text) {
    for (uint32_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != ' ' && text.ptr[i] != '\n' && text.ptr[i] != '\r' && text.ptr[i] != '\t')
            return false;
    }
    return true;
}

int32_t cleat_host_render_yaml(const void *ptr, uint32_t len, void *buf, uint32_t limit) {
    cleat_str text = {ptr, len};
    cleat_writer w = {0};
    if (cleat_test.yaml != NULL)
        return answer(cleat_test.yaml, buf, limit);
    if (!host_allows("cleat_render_v1"))
        return CLEAT_EACCES;
    if (len > CLEAT_LIMIT_MESSAGE)
        return CLEAT_E2BIG;
    if (document_end(text) == 0 && text.len > 0) // dashes before the first document
        text = cleat_str_from(text, 3);
    cleat_json_open(&w, '[');
    for (;;) {
        cleat_json document = {0};
        uint32_t end = document_end(text);
        cleat_str part = cleat_str_to(text, end);
        if (!blank(part) && !cleat_json_parse(part, &document)) {
            host_clear(&host.error);
            host_put_words(&host.error, "the test host reads YAML only where it is JSON");
            return CLEAT_EINVAL;
        }
        cleat_json_put(&w, document);
        if (end == text.len)
            break;
        text = cleat_str_from(text, end + 3);
    }
    cleat_json_close(&w, ']');
    return host_fill(buf, limit, cleat_written(&w));
}

int32_t cleat_host_render_helm(const void *ptr, uint32_t len, void *buf, uint32_t limit) {
    cleat_json request;
    if (!cleat_json_parse((cleat_str){ptr, len}, &request))
        return CLEAT_EINVAL;
    return answer(cleat_test.helm, buf, limit);
}

int32_t cleat_host_render_kustomize(const void *ptr, uint32_t len, void *buf, uint32_t limit) {
    cleat_json request;
    if (!cleat_json_parse((cleat_str){ptr, len}, &request))
        return CLEAT_EINVAL;
    return answer(cleat_test.kustomize, buf, limit);
}

static int32_t no_cluster(void) { return host.clusterless ? CLEAT_ENOTSUP : cleat_test.cluster_error; }

// Says what is wrong with a lookup, 0 when it is granted.
static int32_t granted(cleat_str kind, cleat_str path, host_path *parsed) {
    parsed->count = 0;
    if (!host_allows("cleat_lookup_v1") ||
        !host_has(cleat_json_get(host.manifest, CLEAT_STR("lookups")), kind))
        return CLEAT_EACCES;
    if (path.len > 0 && !host_parse_path(path, parsed))
        return CLEAT_EINVAL;
    return no_cluster();
}

static cleat_json field(cleat_json object, const char *name) {
    return cleat_json_get(object, cleat_str_of(name));
}

// Takes the next object of a kind and namespace; an empty one is all.
static bool next_object(cleat_json_items *objects, cleat_str kind, cleat_str namespace_,
                        cleat_json *object) {
    while (cleat_json_next(objects, object)) {
        cleat_str have = cleat_concat(cleat_json_text(field(*object, "apiVersion")), CLEAT_STR("/"),
                                      cleat_json_text(field(*object, "kind")));
        cleat_str in = cleat_json_text(field(field(*object, "metadata"), "namespace"));
        if (cleat_str_equal(have, kind) && (namespace_.len == 0 || cleat_str_equal(in, namespace_)))
            return true;
    }
    return false;
}

static cleat_json_items all_objects(void) {
    cleat_json list = {0};
    if (cleat_test.objects != NULL)
        cleat_json_parse(cleat_str_of(cleat_test.objects), &list);
    return cleat_json_each(list);
}

static bool put_at(cleat_json object, const host_path *path, cleat_writer *w) {
    uint32_t count;
    return path->count == 0 ? host_encode(object, w) : host_value_at(object, path, w, &count);
}

int32_t cleat_host_lookup_get(const void *kind_ptr, uint32_t kind_len, const void *namespace_ptr,
                              uint32_t namespace_len, const void *name_ptr, uint32_t name_len,
                              const void *path_ptr, uint32_t path_len, void *buf, uint32_t limit) {
    cleat_str kind = {kind_ptr, kind_len}, namespace_ = {namespace_ptr, namespace_len};
    host_path path;
    cleat_json object;
    cleat_writer w = {0};
    int32_t n = granted(kind, (cleat_str){path_ptr, path_len}, &path);
    if (n < 0)
        return n;
    cleat_json_items objects = all_objects();
    while (next_object(&objects, kind, CLEAT_STR(""), &object)) {
        cleat_json metadata = field(object, "metadata");
        if (!cleat_str_equal(cleat_json_text(field(metadata, "namespace")), namespace_) ||
            !cleat_str_equal(cleat_json_text(field(metadata, "name")), (cleat_str){name_ptr, name_len}))
            continue;
        return put_at(object, &path, &w) ? host_fill(buf, limit, cleat_written(&w)) : CLEAT_E2BIG;
    }
    return CLEAT_ENOENT;
}

// Reports whether labels fit one requirement: key=value, key!=value, key or !key. error is set to
// EINVAL for any other.
static bool requirement_fits(cleat_str text, cleat_json labels, int32_t *error) {
    bool negative = cleat_str_has_prefix(text, CLEAT_STR("!"));
    uint32_t equals = cleat_str_find(text, '=');
    if (cleat_str_find(text, '(') != CLEAT_NONE || text.len == 0)
        *error = CLEAT_EINVAL;
    if (equals == CLEAT_NONE)
        return negative != (cleat_json_get(labels, cleat_str_from(text, negative)).text.len > 0);
    cleat_str key = cleat_str_to(text, equals), value = cleat_str_from(text, equals + 1);
    if (cleat_str_has_prefix(value, CLEAT_STR("=")))
        value = cleat_str_from(value, 1);
    negative = cleat_str_has_suffix(key, CLEAT_STR("!"));
    if (negative)
        key = cleat_str_to(key, key.len - 1);
    cleat_json have = cleat_json_get(labels, key);
    return negative != (have.text.len > 0 && cleat_str_equal(cleat_json_text(have), value));
}

static bool selector_fits(cleat_str selector, cleat_json labels, int32_t *error) {
    while (selector.len > 0) {
        uint32_t comma = cleat_str_find(selector, ',');
        if (!requirement_fits(cleat_str_to(selector, comma), labels, error))
            return false;
        selector = comma == CLEAT_NONE ? CLEAT_STR("") : cleat_str_from(selector, comma + 1);
    }
    return true;
}

int32_t cleat_host_lookup_list(const void *kind_ptr, uint32_t kind_len, const void *namespace_ptr,
                               uint32_t namespace_len, const void *selector_ptr,
                               uint32_t selector_len, const void *path_ptr, uint32_t path_len,
                               void *buf, uint32_t limit) {
    cleat_str kind = {kind_ptr, kind_len}, namespace_ = {namespace_ptr, namespace_len};
    host_path path;
    cleat_json object;
    cleat_writer elements = {0}, w = {0};
    uint32_t count = 0;
    int32_t error = granted(kind, (cleat_str){path_ptr, path_len}, &path);
    if (error < 0)
        return error;
    cleat_json_items objects = all_objects();
    while (next_object(&objects, kind, namespace_, &object)) {
        cleat_json labels = field(field(object, "metadata"), "labels");
        if (!selector_fits((cleat_str){selector_ptr, selector_len}, labels, &error))
            continue;
        if (++count > CLEAT_LIMIT_LOOKUP_OBJECTS || !put_at(object, &path, &elements))
            return CLEAT_E2BIG;
    }
    if (error < 0)
        return error;
    cleat_value_put_list(&w, count);
    cleat_put(&w, cleat_written(&elements));
    return host_fill(buf, limit, cleat_written(&w));
}

// The plugin's state; set is what the running hook put over value.
static struct {
    host_text key, value, set;
    bool changed;
} entries[CLEAT_LIMIT_STATE_KEYS];
static uint32_t entry_count;

// Returns the place of a key, or that behind the last entry.
static uint32_t find_entry(cleat_str key) {
    uint32_t i = 0;
    while (i < entry_count && !cleat_str_equal(host_str(&entries[i].key), key))
        i++;
    return i;
}

// Says what is wrong with a function of the state, 0 when it may be called.
static int32_t no_state(uint32_t key_len) {
    if (!host_allows("cleat_kv_v1"))
        return CLEAT_EACCES;
    return key_len == 0 || key_len > CLEAT_LIMIT_KEY ? CLEAT_EINVAL : no_cluster();
}

int32_t cleat_host_kv_get(const void *ptr, uint32_t len, void *buf, uint32_t limit) {
    int32_t n = no_state(len);
    if (n < 0)
        return n;
    uint32_t i = find_entry((cleat_str){ptr, len});
    cleat_str value = CLEAT_STR("");
    if (i < entry_count)
        value = host_str(entries[i].changed ? &entries[i].set : &entries[i].value);
    return value.len == 0 ? CLEAT_ENOENT : host_fill(buf, limit, value);
}

int32_t cleat_host_kv_set(const void *key_ptr, uint32_t key_len, const void *value_ptr,
                          uint32_t value_len) {
    int32_t n = no_state(key_len);
    if (n < 0)
        return n;
    uint32_t i = find_entry((cleat_str){key_ptr, key_len});
    if (i == CLEAT_LIMIT_STATE_KEYS || value_len > CLEAT_LIMIT_STATE_VALUE)
        return CLEAT_E2BIG;
    if (i == entry_count) {
        host_put(&entries[i].key, (cleat_str){key_ptr, key_len});
        entry_count++;
    }
    host_clear(&entries[i].set);
    host_put(&entries[i].set, (cleat_str){value_ptr, value_len});
    entries[i].changed = true;
    return 0;
}

void host_state_end(bool keep) {
    for (uint32_t i = 0; i < entry_count; i++) {
        if (!entries[i].changed)
            continue;
        entries[i].changed = false;
        if (keep) {
            host_clear(&entries[i].value);
            host_put(&entries[i].value, host_str(&entries[i].set));
            host_put(&host.result, cleat_concat(CLEAT_STR("state "), host_str(&entries[i].key),
                                                CLEAT_STR(" = "), host_str(&entries[i].set),
                                                CLEAT_STR("\n")));
        }
        host_clear(&entries[i].set);
    }
}

void host_state_clear(void) {
    for (uint32_t i = 0; i < entry_count; i++) {
        host_clear(&entries[i].key);
        host_clear(&entries[i].value);
        host_clear(&entries[i].set);
        entries[i].changed = false;
    }
    entry_count = 0;
}
