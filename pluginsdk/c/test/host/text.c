#include "host.h"

#include <stdio.h>
#include <string.h>

void host_put(host_text *t, cleat_str text) {
    char *ptr = realloc(t->ptr, t->len + text.len + 1);
    if (ptr == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    if (text.len > 0)
        memcpy(ptr + t->len, text.ptr, text.len);
    t->ptr = ptr;
    t->len += text.len;
    t->ptr[t->len] = 0;
}

void host_put_words(host_text *t, const char *words) { host_put(t, cleat_str_of(words)); }

void host_clear(host_text *t) {
    free(t->ptr);
    *t = (host_text){0};
}

cleat_str host_str(const host_text *t) {
    return (cleat_str){t->ptr != NULL ? t->ptr : "", (uint32_t)t->len};
}

int32_t host_fill(void *buf, uint32_t limit, cleat_str text) {
    if (text.len <= limit && text.len > 0)
        memcpy(buf, text.ptr, text.len);
    return (int32_t)text.len;
}

cleat_str host_cut(const void *ptr, uint32_t len, uint32_t most) {
    const char *text = ptr;
    if (len > most) {
        len = most;
        while (len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80)
            len--;
    }
    return (cleat_str){text, len};
}
