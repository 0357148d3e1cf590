// What the files of the SDK share and a plugin does not see.
#ifndef CLEAT_INTERNAL_H
#define CLEAT_INTERNAL_H

#include "cleat/cleat.h"

// Frees what the last hook allocated; what was kept stays.
void cleat_memory_reset(void);

// Frees everything.
void cleat_memory_clear(void);

// Keeps what is allocated now.
void cleat_memory_keep(void);

// Returns memory of at least size bytes, and how many it is.
void *cleat_memory_reserve(uint32_t size, uint32_t *limit);

// Gives back what is behind the first used bytes of memory from reserve, if it still can.
void cleat_memory_shrink(void *ptr, uint32_t limit, uint32_t used);

// Makes memory from cleat_alloc longer where it is; false when it cannot.
bool cleat_memory_extend(void *ptr, uint32_t size, uint32_t want);

// Fails the call with "what detail: ..." unless the answer of a host function is a success.
bool cleat_check(cleat_call *call, int32_t answer, cleat_str what, cleat_str detail);

// Returns the value that a host function wrote to the buffer; null when it failed.
cleat_value cleat_buffer_value(cleat_call *call, const cleat_buffer *b, cleat_str what,
                               cleat_str detail);

// Returns the JSON that a host function wrote to the buffer; absent when it failed.
cleat_json cleat_buffer_json(cleat_call *call, const cleat_buffer *b, cleat_str what);

// Returns the length of the UTF-8 sequence at the start of text, 0 when it is malformed.
uint32_t cleat_utf8_length(cleat_str text);

// Eight bytes at once: the compiler makes one load of it.
static inline uint64_t cleat_load8(const char *p) {
    uint64_t w;
    __builtin_memcpy(&w, p, sizeof w);
    return w;
}

#define CLEAT_ONES UINT64_C(0x0101010101010101)
#define CLEAT_HIGHS UINT64_C(0x8080808080808080)

// Reports whether a word has a byte of that value.
static inline bool cleat_has_byte(uint64_t w, char byte) {
    uint64_t x = w ^ CLEAT_ONES * (uint8_t)byte;
    return ((x - CLEAT_ONES) & ~x & CLEAT_HIGHS) != 0;
}

#endif
