// The memory of a guest, in pages that the test hands out.
#include "check.h"
#include "../src/internal.h"

#define PAGE 65536u
#define PAGES 256u

static _Alignas(65536) char space[PAGES * PAGE];
static uint32_t given, most = PAGES;

size_t cleat_test_add_pages(uint32_t n) {
    if (n > most - given)
        return SIZE_MAX;
    char *start = space + (size_t)given * PAGE;
    given += n;
    return (uintptr_t)start / PAGE;
}

// Allocates and fills memory; every byte says whose it is.
static char *filled(uint32_t size, char mark) {
    char *p = cleat_alloc(size);
    CHECK((uintptr_t)p % 16 == 0);
    memset(p, mark, size);
    return p;
}

static bool all(const char *p, uint32_t size, char mark) {
    for (uint32_t i = 0; i < size; i++) {
        if (p[i] != mark)
            return false;
    }
    return true;
}

static void keeps(void) {
    cleat_memory_clear();
    char *kept = filled(100, 'k');
    cleat_memory_keep();
    char *first = filled(200, 'a');
    filled(100000, 'b');
    cleat_memory_reset();
    CHECK(filled(200, 'c') == first);
    CHECK(all(kept, 100, 'k'));
    cleat_memory_clear();
    CHECK(filled(1, 'd') == kept);
}

// What is handed out in one hook does not overlap, and the next hook needs no more pages.
static void reuses(void) {
    uint64_t state = 1;
    uint32_t before = 0;
    for (int round = 0; round < 50; round++) {
        struct {
            char *p;
            uint32_t size;
        } pieces[60];
        state = 1;
        cleat_memory_reset();
        for (uint32_t i = 0; i < 60; i++) {
            uint32_t size = next_random(&state) % (i % 10 == 0 ? 60000 : 300);
            pieces[i].size = size;
            pieces[i].p = filled(size, (char)i);
            if (i % 7 == 0 && given < most)
                given++; // somebody else takes a page
        }
        for (uint32_t i = 0; i < 60; i++)
            CHECK(all(pieces[i].p, pieces[i].size, (char)i));
        if (round == 20)
            before = given;
        if (round == 0)
            most = given; // and there are no more
    }
    CHECK(given == before);
    most = PAGES;
}

static void shrinks(void) {
    cleat_memory_reset();
    uint32_t limit;
    char *p = cleat_memory_reserve(100, &limit);
    CHECK(limit >= 100);
    memset(p, 1, limit);
    cleat_memory_shrink(p, limit, 20);
    CHECK((char *)cleat_alloc(1) == p + 32);
    // Memory that is not the last stays as it is.
    p = cleat_memory_reserve(100, &limit);
    char *q = filled(50, 'q');
    cleat_memory_shrink(p, limit, 0);
    CHECK((char *)cleat_alloc(16) >= q + 50);
    // A buffer may be filled up, or to a length that rounds up behind its end.
    p = cleat_memory_reserve(1, &limit);
    cleat_memory_shrink(p, limit, limit);
    CHECK((char *)cleat_alloc(1) >= p + limit || (char *)cleat_alloc(1) < p);
}

static void extends(void) {
    cleat_memory_reset();
    char *p = filled(100, 'p');
    CHECK(cleat_memory_extend(p, 100, 5000));
    CHECK((char *)cleat_alloc(1) >= p + 5000);
    CHECK(!cleat_memory_extend(p, 5000, 6000));
    CHECK(!cleat_memory_extend(NULL, 0, 64));
    cleat_writer w = {0};
    for (uint32_t i = 0; i < 200000; i++)
        cleat_put_byte(&w, (char)i);
    cleat_str text = cleat_written(&w);
    bool same = text.len == 200000;
    for (uint32_t i = 0; i < text.len; i++)
        same = same && text.ptr[i] == (char)i;
    CHECK(same);
}

int main(void) {
    keeps();
    reuses();
    shrinks();
    extends();
    return cleat_test_done();
}
