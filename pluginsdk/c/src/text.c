#include "internal.h"

#include <string.h>

cleat_str cleat_str_of(const char *text) { return (cleat_str){text, (uint32_t)strlen(text)}; }

cleat_str cleat_str_from(cleat_str text, uint32_t n) {
    if (n >= text.len)
        return (cleat_str){"", 0};
    return (cleat_str){text.ptr + n, text.len - n};
}

cleat_str cleat_str_to(cleat_str text, uint32_t n) {
    return (cleat_str){text.ptr, n < text.len ? n : text.len};
}

// The loops below take eight bytes a round, since a host that can interrupt a guest makes every
// round cost something.

bool cleat_str_equal(cleat_str a, cleat_str b) {
    if (a.len != b.len)
        return false;
    uint32_t i = 0;
    for (; a.len - i >= 8; i += 8) {
        if (cleat_load8(a.ptr + i) != cleat_load8(b.ptr + i))
            return false;
    }
    for (; i < a.len; i++) {
        if (a.ptr[i] != b.ptr[i])
            return false;
    }
    return true;
}

bool cleat_str_has_prefix(cleat_str text, cleat_str prefix) {
    return text.len >= prefix.len && cleat_str_equal(cleat_str_to(text, prefix.len), prefix);
}

bool cleat_str_has_suffix(cleat_str text, cleat_str suffix) {
    return text.len >= suffix.len &&
           cleat_str_equal(cleat_str_from(text, text.len - suffix.len), suffix);
}

uint32_t cleat_str_find(cleat_str text, char byte) {
    uint32_t i = 0;
    while (text.len - i >= 8 && !cleat_has_byte(cleat_load8(text.ptr + i), byte))
        i += 8;
    for (; i < text.len; i++) {
        if (text.ptr[i] == byte)
            return i;
    }
    return CLEAT_NONE;
}

uint32_t cleat_str_find_last(cleat_str text, char byte) {
    uint32_t n = text.len;
    while (n >= 8 && !cleat_has_byte(cleat_load8(text.ptr + n - 8), byte))
        n -= 8;
    while (n > 0) {
        n--;
        if (text.ptr[n] == byte)
            return n;
    }
    return CLEAT_NONE;
}

cleat_str cleat_decimal(int64_t n) {
    char digits[20];
    uint32_t at = sizeof digits;
    uint64_t rest = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (n < 0)
        digits[--at] = '-';
    uint32_t len = sizeof digits - at;
    char *text = cleat_alloc(len);
    memcpy(text, digits + at, len);
    return (cleat_str){text, len};
}

cleat_str cleat_concat_parts(const cleat_str *parts, size_t count) {
    return cleat_join(parts, (uint32_t)count, (cleat_str){"", 0});
}

cleat_str cleat_join(const cleat_str *parts, uint32_t count, cleat_str separator) {
    cleat_writer w = {0};
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            cleat_put(&w, separator);
        cleat_put(&w, parts[i]);
    }
    return cleat_written(&w);
}

// Makes room for n more bytes.
static void reserve(cleat_writer *w, uint32_t n) {
    if (w->limit - w->len >= n)
        return;
    uint32_t least = n > UINT32_MAX - w->len ? UINT32_MAX : w->len + n; // more than there is
    uint32_t want = w->limit > UINT32_MAX / 2 ? UINT32_MAX : 2 * w->limit;
    if (want < 64)
        want = 64;
    if (want < least)
        want = least;
    if (!cleat_memory_extend(w->ptr, w->limit, want)) {
        char *old = w->ptr;
        w->ptr = cleat_alloc(want);
        if (w->len > 0)
            memcpy(w->ptr, old, w->len);
    }
    w->limit = want;
}

void cleat_put(cleat_writer *w, cleat_str bytes) {
    if (bytes.len == 0)
        return;
    reserve(w, bytes.len);
    memcpy(w->ptr + w->len, bytes.ptr, bytes.len);
    w->len += bytes.len;
}

void cleat_put_byte(cleat_writer *w, char byte) {
    reserve(w, 1);
    w->ptr[w->len++] = byte;
}

cleat_str cleat_written(const cleat_writer *w) {
    return (cleat_str){w->ptr != NULL ? w->ptr : "", w->len};
}

uint32_t cleat_utf8_length(cleat_str text) {
    if (text.len == 0)
        return 0;
    uint8_t lead = (uint8_t)text.ptr[0];
    if (lead < 0x80)
        return 1;
    uint32_t n = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.len < n)
        return 0;
    for (uint32_t i = 1; i < n; i++) {
        if (((uint8_t)text.ptr[i] & 0xc0) != 0x80)
            return 0;
    }
    // Neither overlong, nor a surrogate, nor behind U+10FFFF.
    uint8_t second = (uint8_t)text.ptr[1];
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
        (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
        return 0;
    return n;
}
