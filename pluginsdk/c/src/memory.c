// Memory for one hook at a time: it is handed out in a row and freed all at once.
#include <stdlib.h>

#include "internal.h"

#define MOST ((uint32_t)1 << 30)

static _Noreturn void out_of_memory(void) {
    cleat_log(CLEAT_LOG_ERROR, CLEAT_STR("out of memory; raise limits.memory_pages of the manifest"));
#ifdef __wasm__
    __builtin_trap();
#else
    abort();
#endif
}

#if defined(__wasm__) || defined(CLEAT_TEST_PAGES)

// Adds pages to the memory and returns how many there were, SIZE_MAX when there are no more.
#ifdef __wasm__
static size_t add_pages(uint32_t n) { return __builtin_wasm_memory_grow(0, n); }
#else
size_t cleat_test_add_pages(uint32_t n);
static size_t add_pages(uint32_t n) { return cleat_test_add_pages(n); }
#endif

#define PAGE 65536u
#define ALIGN(n) (((n) + 15u) & ~15u)

// A stretch of memory. Chunks behind memory.now are free, whatever they say.
typedef struct chunk {
    struct chunk *next;
    uint32_t size, used;
    _Alignas(16) char space[];
} chunk;

static _Alignas(16) char first[16384];

static struct {
    chunk *now;
    chunk *kept;
    uint32_t kept_used;
} memory;

static void begin(void) {
    if (memory.now == NULL) {
        memory.now = memory.kept = (chunk *)first;
        memory.now->size = sizeof first - sizeof(chunk);
    }
}

void cleat_memory_reset(void) {
    begin();
    memory.now = memory.kept;
    memory.now->used = memory.kept_used;
}

void cleat_memory_clear(void) {
    begin();
    memory.kept = (chunk *)first;
    memory.kept_used = 0;
    cleat_memory_reset();
}

void cleat_memory_keep(void) {
    begin();
    memory.kept = memory.now;
    memory.kept_used = memory.now->used;
}

// Adds memory behind the last chunk: to it, when the new pages follow it, else as another. Somebody
// else, such as malloc, may have taken pages in between.
static void grow(chunk *last, uint32_t need) {
    uint32_t bytes = need + sizeof(chunk);
    uint32_t more = last->size < PAGE * 16 ? last->size : PAGE * 16;
    uint32_t pages = ((bytes > more ? bytes : more) + PAGE - 1) / PAGE;
    size_t old = add_pages(pages);
    if (old == SIZE_MAX) {
        pages = (bytes + PAGE - 1) / PAGE;
        old = add_pages(pages);
        if (old == SIZE_MAX)
            out_of_memory();
    }
    char *start = (char *)(old * PAGE);
    if (start == last->space + last->size) {
        last->size += pages * PAGE;
        return;
    }
    chunk *c = (chunk *)start;
    c->next = NULL;
    c->size = pages * PAGE - sizeof(chunk);
    c->used = 0;
    last->next = c;
}

// Makes memory.now a chunk with room.
static void make_room(uint32_t need) {
    begin();
    chunk *c = memory.now;
    while (c->size - c->used < need) {
        if (c->next == NULL)
            grow(c, need);
        if (c->next != NULL) {
            c = c->next;
            c->used = 0;
        }
    }
    memory.now = c;
}

void *cleat_alloc(uint32_t size) {
    if (size > MOST)
        out_of_memory();
    make_room(ALIGN(size));
    chunk *c = memory.now;
    void *ptr = c->space + c->used;
    c->used += ALIGN(size);
    return ptr;
}

void *cleat_memory_reserve(uint32_t size, uint32_t *limit) {
    if (size > MOST)
        out_of_memory();
    make_room(ALIGN(size));
    chunk *c = memory.now;
    void *ptr = c->space + c->used;
    *limit = c->size - c->used;
    c->used = c->size;
    return ptr;
}

void cleat_memory_shrink(void *ptr, uint32_t limit, uint32_t used) {
    chunk *c = memory.now;
    if ((char *)ptr + limit == c->space + c->used && used <= limit)
        c->used -= limit - (ALIGN(used) < limit ? ALIGN(used) : limit);
}

bool cleat_memory_extend(void *ptr, uint32_t size, uint32_t want) {
    chunk *c = memory.now;
    if (ptr == NULL || want > MOST || (char *)ptr + ALIGN(size) != c->space + c->used)
        return false;
    uint32_t more = ALIGN(want) - ALIGN(size);
    if (c->size - c->used < more && c->next == NULL)
        grow(c, more);
    if (c->size - c->used < more)
        return false;
    c->used += more;
    return true;
}

#else

// In a native build every piece is the allocator's own, and no longer than asked for, so that a
// sanitizer sees a write behind it or a use after the hook.
typedef struct piece {
    struct piece *next;
    _Alignas(16) char space[];
} piece;

static struct {
    piece *all, *kept;
} memory;

void cleat_memory_reset(void) {
    while (memory.all != memory.kept) {
        piece *p = memory.all;
        memory.all = p->next;
        free(p);
    }
}

void cleat_memory_clear(void) {
    memory.kept = NULL;
    cleat_memory_reset();
}

void cleat_memory_keep(void) { memory.kept = memory.all; }

void *cleat_alloc(uint32_t size) {
    piece *p = size > MOST ? NULL : malloc(sizeof *p + size);
    if (p == NULL)
        out_of_memory();
    p->next = memory.all;
    memory.all = p;
    return p->space;
}

void *cleat_memory_reserve(uint32_t size, uint32_t *limit) {
    *limit = size;
    return cleat_alloc(size);
}

void cleat_memory_shrink(void *ptr, uint32_t limit, uint32_t used) {
    (void)ptr;
    (void)limit;
    (void)used;
}

bool cleat_memory_extend(void *ptr, uint32_t size, uint32_t want) {
    (void)ptr;
    (void)size;
    (void)want;
    return false;
}

#endif
