// Field paths and what they name.
#include "host.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static bool plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

// Reads ['key'] at the start of text and returns how long it is, 0 when it is malformed.
static uint32_t quoted_key(cleat_str text, cleat_str *key) {
    char *decoded = cleat_alloc(text.len);
    uint32_t n = 0;
    if (!cleat_str_has_prefix(text, CLEAT_STR("['")))
        return 0;
    for (uint32_t i = 2; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '\'') {
            *key = (cleat_str){decoded, n};
            return n > 0 && cleat_str_has_prefix(cleat_str_from(text, i), CLEAT_STR("']")) ? i + 2 : 0;
        }
        if (c == '\\' && (++i == text.len || ((c = text.ptr[i]) != '\'' && c != '\\')))
            return 0;
        if ((uint8_t)c < 0x20 || c == 0x7f)
            return 0;
        decoded[n++] = c;
    }
    return 0;
}

bool host_parse_path(cleat_str text, host_path *path) {
    path->count = 0;
    if (text.len == 0 || text.len > CLEAT_LIMIT_PATH)
        return false;
    for (uint32_t i = 0; i < text.len;) {
        if (path->count == CLEAT_LIMIT_PATH_STEPS)
            return false;
        host_step step = {{"", 0}, false};
        cleat_str rest = cleat_str_from(text, i);
        if (cleat_str_has_prefix(rest, CLEAT_STR("[*]"))) {
            if (i == 0)
                return false;
            step.each = true;
            i += 3;
        } else if (rest.ptr[0] == '[') {
            uint32_t n = quoted_key(rest, &step.key);
            if (n == 0)
                return false;
            i += n;
        } else {
            if (i > 0 && text.ptr[i++] != '.')
                return false;
            uint32_t begin = i;
            while (i < text.len && plain(text.ptr[i]))
                i++;
            if (i == begin)
                return false;
            step.key = cleat_str_from(cleat_str_to(text, i), begin);
        }
        path->steps[path->count++] = step;
    }
    return true;
}

static bool covers(const host_path *a, const host_path *b) {
    if (a->count > b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++) {
        if (a->steps[i].each != b->steps[i].each ||
            !cleat_str_equal(a->steps[i].key, b->steps[i].key))
            return false;
    }
    return true;
}

bool host_covered(const char *list, const host_path *path) {
    cleat_json admission = cleat_json_get(host.manifest, CLEAT_STR("admission")), item;
    cleat_json_items items = cleat_json_each(cleat_json_get(admission, cleat_str_of(list)));
    while (cleat_json_next(&items, &item)) {
        host_path granted;
        if (host_parse_path(cleat_json_text(item), &granted) && covers(&granted, path))
            return true;
    }
    return false;
}

bool host_path_equal(const host_path *a, const host_path *b) {
    return a->count == b->count && covers(a, b);
}

bool host_path_has_each(const host_path *path) {
    for (uint32_t i = 0; i < path->count; i++) {
        if (path->steps[i].each)
            return true;
    }
    return false;
}

// Writes a number; an integer that fits stays one, as the host has it.
static bool encode_number(cleat_str text, cleat_writer *w) {
    char *copy = cleat_alloc(text.len + 1), *end;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    errno = 0;
    long long n = strtoll(copy, &end, 10);
    if (errno == 0 && *end == 0) {
        cleat_value_put_int(w, n);
        return true;
    }
    double f = strtod(copy, NULL);
    if (isinf(f))
        return false;
    if (f == trunc(f) && fabs(f) <= 9007199254740992.0)
        cleat_value_put_int(w, (int64_t)f);
    else
        cleat_value_put_float(w, f);
    return true;
}

static bool encode(cleat_json v, cleat_writer *w, uint32_t depth) {
    cleat_json item;
    uint32_t count = 0;
    switch (cleat_json_type_of(v)) {
    case CLEAT_JSON_ABSENT:
    case CLEAT_JSON_NULL:
        cleat_value_put_null(w);
        return true;
    case CLEAT_JSON_BOOL:
        cleat_value_put_bool(w, cleat_json_bool(v, false));
        return true;
    case CLEAT_JSON_NUMBER:
        return encode_number(v.text, w);
    case CLEAT_JSON_STRING:
        cleat_value_put_string(w, cleat_json_text(v));
        return true;
    case CLEAT_JSON_OBJECT:
        cleat_value_put_json(w, v.text);
        return true;
    case CLEAT_JSON_ARRAY:
        break;
    }
    if (depth == CLEAT_MAX_LIST_DEPTH)
        return false;
    for (cleat_json_items items = cleat_json_each(v); cleat_json_next(&items, &item);)
        count++;
    cleat_value_put_list(w, count);
    for (cleat_json_items items = cleat_json_each(v); cleat_json_next(&items, &item);) {
        if (!encode(item, w, depth + 1))
            return false;
    }
    return true;
}

bool host_encode(cleat_json v, cleat_writer *w) { return encode(v, w, 0) && w->len <= CLEAT_LIMIT_VALUE; }

static bool values(cleat_json node, const host_step *steps, uint32_t left, cleat_writer *w,
                   uint32_t depth, uint32_t *count) {
    if (left == 0) {
        ++*count;
        return encode(node, w, depth);
    }
    if (!steps->each)
        return values(cleat_json_get(node, steps->key), steps + 1, left - 1, w, depth, count);
    if (cleat_json_type_of(node) != CLEAT_JSON_ARRAY)
        return true;
    cleat_json item;
    for (cleat_json_items items = cleat_json_each(node); cleat_json_next(&items, &item);) {
        if (!values(item, steps + 1, left - 1, w, depth, count))
            return false;
    }
    return true;
}

bool host_value_at(cleat_json object, const host_path *path, cleat_writer *w, uint32_t *count) {
    bool list = host_path_has_each(path);
    cleat_writer elements = {0};
    *count = 0;
    if (!values(object, path->steps, path->count, &elements, list ? 1 : 0, count))
        return false;
    if (list)
        cleat_value_put_list(w, *count);
    cleat_put(w, cleat_written(&elements));
    return w->len <= CLEAT_LIMIT_VALUE;
}

bool host_value_json(cleat_value v, cleat_writer *w) {
    cleat_value element;
    cleat_json json;
    int64_t n;
    double f;
    char digits[32];
    switch (v.tag) {
    case CLEAT_TAG_NULL:
        cleat_json_put_null(w);
        return true;
    case CLEAT_TAG_FALSE:
    case CLEAT_TAG_TRUE:
        cleat_json_put_bool(w, cleat_value_is_true(v));
        return true;
    case CLEAT_TAG_INT:
        cleat_value_int(v, &n);
        cleat_json_put_int(w, n);
        return true;
    case CLEAT_TAG_FLOAT:
        cleat_value_float(v, &f);
        if (isnan(f) || isinf(f))
            return false;
        snprintf(digits, sizeof digits, "%.17g", f);
        cleat_json_put(w, (cleat_json){cleat_str_of(digits)});
        return true;
    case CLEAT_TAG_STRING:
        cleat_json_put_text(w, cleat_value_text(v));
        return true;
    case CLEAT_TAG_JSON:
        if (!cleat_json_parse(cleat_value_json(v), &json))
            return false;
        cleat_json_put(w, json);
        return true;
    }
    cleat_json_open(w, '[');
    for (cleat_list list = cleat_value_list(v); cleat_list_next(&list, &element);) {
        if (!host_value_json(element, w))
            return false;
    }
    cleat_json_close(w, ']');
    return true;
}
