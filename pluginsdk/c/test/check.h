// Checks of the SDK's own tests.
#ifndef CLEAT_TEST_CHECK_H
#define CLEAT_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleat/cleat.h"
#include "cleat/test.h"

#define CHECK(condition) CLEAT_EXPECT((condition) ? "holds" : #condition, "holds")

// Compares a text that ends nowhere.
static inline void check_text(const char *file, int line, cleat_str got, const char *want) {
    char *text = malloc(got.len + 1);
    if (got.len > 0)
        memcpy(text, got.ptr, got.len);
    text[got.len] = 0;
    cleat_test_expect(file, line, text, want);
    free(text);
}
#define CHECK_TEXT(got, want) check_text(__FILE__, __LINE__, (got), (want))

// Returns the same text in memory of its own, so that a sanitizer sees a read behind it.
static inline cleat_str exact(cleat_str text) {
    char *copy = malloc(text.len > 0 ? text.len : 1);
    if (text.len > 0)
        memcpy(copy, text.ptr, text.len);
    return (cleat_str){copy, text.len};
}

static inline void exact_free(cleat_str text) { free((void *)(uintptr_t)text.ptr); }

// Returns the next of a row of numbers that is always the same.
static inline uint32_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

// Changes, removes or adds some bytes of a text in exact memory.
static inline cleat_str spoil(cleat_str text, uint64_t *state) {
    char *copy = malloc(text.len + 8);
    memcpy(copy, text.ptr, text.len);
    uint32_t len = text.len;
    for (uint32_t n = next_random(state) % 3 + 1; n > 0; n--) {
        uint32_t at = next_random(state) % (len + 1);
        switch (next_random(state) % 3) {
        case 0:
            len = at;
            break;
        case 1:
            if (at < len)
                copy[at] = (char)next_random(state);
            break;
        default:
            memmove(copy + at + 1, copy + at, len - at);
            copy[at] = "{}[]\",:\\u0\x80\xff\x06\x05"[next_random(state) % 14];
            len++;
        }
    }
    cleat_str spoilt = exact((cleat_str){copy, len});
    free(copy);
    return spoilt;
}

#endif
