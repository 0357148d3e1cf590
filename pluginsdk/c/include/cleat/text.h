// Text: slices of bytes, and a buffer that grows.
#ifndef CLEAT_TEXT_H
#define CLEAT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Some bytes, UTF-8 mostly, without a zero at the end. They belong to somebody else.
typedef struct cleat_str {
    const char *ptr;
    uint32_t len;
} cleat_str;

// A string literal as a cleat_str.
#define CLEAT_STR(literal) ((cleat_str){"" literal, sizeof(literal) - 1})

// Returns a text that ends in a zero.
cleat_str cleat_str_of(const char *text);

// Returns what follows the first n bytes.
cleat_str cleat_str_from(cleat_str text, uint32_t n);

// Returns the first n bytes.
cleat_str cleat_str_to(cleat_str text, uint32_t n);

bool cleat_str_equal(cleat_str a, cleat_str b);
bool cleat_str_has_prefix(cleat_str text, cleat_str prefix);
bool cleat_str_has_suffix(cleat_str text, cleat_str suffix);

// CLEAT_NONE says that there is no such place.
#define CLEAT_NONE UINT32_MAX

// Returns the place of the first, or last, such byte; CLEAT_NONE without one.
uint32_t cleat_str_find(cleat_str text, char byte);
uint32_t cleat_str_find_last(cleat_str text, char byte);

// Returns n as decimal text.
cleat_str cleat_decimal(int64_t n);

// Joins cleat_strs: cleat_concat(CLEAT_STR("a"), b, c).
#define cleat_concat(...)                                                                          \
    cleat_concat_parts((const cleat_str[]){__VA_ARGS__},                                           \
                       sizeof((const cleat_str[]){__VA_ARGS__}) / sizeof(cleat_str))
cleat_str cleat_concat_parts(const cleat_str *parts, size_t count);

// Joins texts with a separator between them.
cleat_str cleat_join(const cleat_str *parts, uint32_t count, cleat_str separator);

// A buffer to write to. It starts as {0}.
typedef struct cleat_writer {
    char *ptr;
    uint32_t len, limit;
} cleat_writer;

// Appends bytes.
void cleat_put(cleat_writer *w, cleat_str bytes);
void cleat_put_byte(cleat_writer *w, char byte);

// Returns what was written so far; the next write makes it invalid.
cleat_str cleat_written(const cleat_writer *w);

#endif
