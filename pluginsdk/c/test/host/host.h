// What the files of the test host share.
#ifndef CLEAT_TEST_HOST_H
#define CLEAT_TEST_HOST_H

#include <stdlib.h>

#include "cleat/cleat.h"
#include "cleat/test.h"

// Text that grows, in memory of the host: what the SDK allocates is gone after the hook.
typedef struct host_text {
    char *ptr; // ends in a zero
    size_t len;
} host_text;

void host_put(host_text *t, cleat_str text);
void host_put_words(host_text *t, const char *words);
void host_clear(host_text *t);
cleat_str host_str(const host_text *t);

// The handle of every hook; not 0, so that a plugin which passes none is noticed.
#define HOST_HANDLE 7

// The plugin under test and the hook that is running.
typedef struct host_state {
    cleat_json manifest;
    host_text manifest_text, config;

    host_text paths[CLEAT_LIMIT_PATHS]; // by path id
    int32_t path_count;

    bool starting, planning, mutating;
    const cleat_test_request *request; // NULL outside admission
    cleat_json object, old_object;
    cleat_str input;
    host_text output, error, deny, notes, mutations, logs, result;
    bool has_output;
    int32_t deny_code;
    int32_t warnings, annotations, mutation_count;
    bool clusterless;
    uint64_t random;
} host_state;

extern host_state host;

// Gives a text to the plugin, as the ABI says.
int32_t host_fill(void *buf, uint32_t limit, cleat_str text);

// Returns text cut to most bytes, between two characters.
cleat_str host_cut(const void *ptr, uint32_t len, uint32_t most);

// Reports whether the manifest declares a capability.
bool host_allows(const char *module);

// Writes the configuration, checked against the schema; false with host.error when it is wrong.
bool host_configure(cleat_str given);

// Returns the bits of the rules that select the request.
uint64_t host_match(const cleat_test_request *r);

// Reports whether a selector of the manifest fits labels, an object of strings.
bool host_selects(cleat_json selector, cleat_json labels);

// Reports whether an array has that string.
bool host_has(cleat_json array, cleat_str text);

// One step of a field path.
typedef struct host_step {
    cleat_str key;
    bool each;
} host_step;

typedef struct host_path {
    host_step steps[CLEAT_LIMIT_PATH_STEPS];
    uint32_t count;
} host_path;

// Reads a field path; false when it is malformed.
bool host_parse_path(cleat_str text, host_path *path);

// Reports whether a path is among those of the manifest, read_paths or write_paths, or below one.
bool host_covered(const char *list, const host_path *path);

bool host_path_equal(const host_path *a, const host_path *b);
bool host_path_has_each(const host_path *path);

// Writes the encoded value at a path; false when it cannot be encoded. count is how many there are.
bool host_value_at(cleat_json object, const host_path *path, cleat_writer *w, uint32_t *count);

// Writes an encoded value, or one as JSON; false when it cannot be.
bool host_encode(cleat_json v, cleat_writer *w);
bool host_value_json(cleat_value v, cleat_writer *w);

// Keeps or drops what the hook put into the state.
void host_state_end(bool keep);
void host_state_clear(void);

#endif
