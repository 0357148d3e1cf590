#include "internal.h"

#include <string.h>

static bool take_count(cleat_str *data, uint32_t *n) {
    if (data->len < 4)
        return false;
    const uint8_t *p = (const uint8_t *)data->ptr;
    *n = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    *data = cleat_str_from(*data, 4);
    // An element of a list takes a byte at least, so that the length bounds a count as well.
    return *n <= data->len;
}

// Reads one value; of a list, only the head.
static bool take(cleat_str *data, cleat_value *v) {
    if (data->len == 0)
        return false;
    *v = (cleat_value){.tag = (uint8_t)data->ptr[0]};
    *data = cleat_str_from(*data, 1);
    uint32_t n;
    switch (v->tag) {
    case CLEAT_TAG_NULL:
    case CLEAT_TAG_FALSE:
    case CLEAT_TAG_TRUE:
        return true;
    case CLEAT_TAG_INT:
    case CLEAT_TAG_FLOAT:
        if (data->len < 8)
            return false;
        for (uint32_t i = 0; i < 8; i++)
            v->bits |= (uint64_t)(uint8_t)data->ptr[i] << (8 * i);
        *data = cleat_str_from(*data, 8);
        return true;
    case CLEAT_TAG_STRING:
    case CLEAT_TAG_JSON:
        if (!take_count(data, &n))
            return false;
        v->data = cleat_str_to(*data, n);
        *data = cleat_str_from(*data, n);
        return true;
    case CLEAT_TAG_LIST:
        return take_count(data, &v->count);
    }
    return false;
}

// Reads one value, and the elements of a list, which stands within depth others.
static bool parse(cleat_str data, uint32_t depth, cleat_value *value, cleat_str *rest) {
    cleat_value v;
    if (!take(&data, &v))
        return false;
    if (v.tag == CLEAT_TAG_LIST) {
        // How many elements are left of each list that is open.
        uint32_t left[CLEAT_MAX_LIST_DEPTH], open = 0;
        cleat_str begin = data;
        if (depth >= CLEAT_MAX_LIST_DEPTH)
            return false;
        left[open++] = v.count;
        while (open > 0) {
            if (left[open - 1] == 0) {
                open--;
                continue;
            }
            left[open - 1]--;
            cleat_value element;
            if (!take(&data, &element))
                return false;
            if (element.tag == CLEAT_TAG_LIST) {
                if (depth + open >= CLEAT_MAX_LIST_DEPTH)
                    return false;
                left[open++] = element.count;
            }
        }
        v.data = cleat_str_to(begin, begin.len - data.len);
    }
    *value = v;
    *rest = data;
    return true;
}

bool cleat_value_parse(cleat_str data, cleat_value *value, cleat_str *rest) {
    *value = (cleat_value){0};
    *rest = (cleat_str){"", 0};
    return parse(data, 0, value, rest);
}

cleat_str cleat_value_text(cleat_value v) {
    return v.tag == CLEAT_TAG_STRING ? v.data : (cleat_str){"", 0};
}

cleat_str cleat_value_json(cleat_value v) {
    return v.tag == CLEAT_TAG_JSON ? v.data : (cleat_str){"", 0};
}

bool cleat_value_int(cleat_value v, int64_t *n) {
    if (v.tag != CLEAT_TAG_INT)
        return false;
    memcpy(n, &v.bits, sizeof *n);
    return true;
}

bool cleat_value_float(cleat_value v, double *n) {
    if (v.tag != CLEAT_TAG_FLOAT)
        return false;
    memcpy(n, &v.bits, sizeof *n);
    return true;
}

cleat_list cleat_value_list(cleat_value v) {
    if (v.tag != CLEAT_TAG_LIST)
        return (cleat_list){0, {"", 0}};
    return (cleat_list){v.count, v.data};
}

bool cleat_list_next(cleat_list *list, cleat_value *value) {
    *value = (cleat_value){0};
    if (list->count == 0)
        return false;
    if (!parse(list->rest, 1, value, &list->rest)) {
        list->count = 0;
        return false;
    }
    list->count--;
    return true;
}

static void put_tag(cleat_writer *w, int tag) { cleat_put_byte(w, (char)tag); }

static void put_number(cleat_writer *w, uint64_t n, uint32_t size) {
    char bytes[8];
    for (uint32_t i = 0; i < size; i++)
        bytes[i] = (char)(n >> (8 * i));
    cleat_put(w, (cleat_str){bytes, size});
}

void cleat_value_put_null(cleat_writer *w) { put_tag(w, CLEAT_TAG_NULL); }

void cleat_value_put_bool(cleat_writer *w, bool b) { put_tag(w, b ? CLEAT_TAG_TRUE : CLEAT_TAG_FALSE); }

void cleat_value_put_int(cleat_writer *w, int64_t n) {
    put_tag(w, CLEAT_TAG_INT);
    put_number(w, (uint64_t)n, 8);
}

void cleat_value_put_float(cleat_writer *w, double n) {
    uint64_t bits;
    memcpy(&bits, &n, sizeof bits);
    put_tag(w, CLEAT_TAG_FLOAT);
    put_number(w, bits, 8);
}

static void put_bytes(cleat_writer *w, int tag, cleat_str bytes) {
    put_tag(w, tag);
    put_number(w, bytes.len, 4);
    cleat_put(w, bytes);
}

void cleat_value_put_string(cleat_writer *w, cleat_str text) { put_bytes(w, CLEAT_TAG_STRING, text); }

void cleat_value_put_json(cleat_writer *w, cleat_str text) { put_bytes(w, CLEAT_TAG_JSON, text); }

void cleat_value_put_list(cleat_writer *w, uint32_t count) {
    put_tag(w, CLEAT_TAG_LIST);
    put_number(w, count, 4);
}
