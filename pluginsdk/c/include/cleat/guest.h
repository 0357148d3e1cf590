// What every plugin uses: the call, memory, log, configuration and start.
#ifndef CLEAT_GUEST_H
#define CLEAT_GUEST_H

#include "abi.h"
#include "json.h"
#include "text.h"

// The hook that is running. Its first failure is kept: from then on reads give null or empty,
// writes do nothing, and the hook ends as a plugin error. A plugin need not check.
typedef struct cleat_call {
    int32_t handle;
    uint64_t rules;   // bit n = match rule n of the manifest matched
    int32_t error;    // number of the first failure, 0 if there was none
    int32_t result;   // what the hook returns unless it fails
    bool decided;     // at a plan point: the result was set
} cleat_call;

// Defines cleat_init; start is a function void start(cleat_call *). It registers field paths and
// reads the configuration, and runs once for each instance. What it allocates stays.
#define CLEAT_START(start)                                                                         \
    int32_t cleat_init(void) { return cleat_run_start(start); }
int32_t cleat_run_start(void (*start)(cleat_call *call));

// Ends the hook as a plugin error, with a text for the operator: field, value and the way out.
void cleat_fail(cleat_call *call, cleat_str text);

// Is cleat_fail with an error number, whose meaning follows the text.
void cleat_fail_errno(cleat_call *call, int32_t number, cleat_str text);

// Writes one line to the host's log, under the plugin's name. level is CLEAT_LOG_INFO or another.
void cleat_log(int32_t level, cleat_str text);

// Returns the plugin's configuration, an object.
cleat_json cleat_config(cleat_call *call);

// Returns the time at which the hook was entered, in nanoseconds since 1970. It needs ABI 1.1.
int64_t cleat_now(void);

// Fills a buffer of at most 4 KiB with random bytes. It needs ABI 1.1.
void cleat_random(cleat_call *call, void *buf, uint32_t size);

// Returns memory for the running hook, aligned for every type and not cleared. It is never NULL: a
// guest that has no memory left traps. When the next hook begins, all of it is free again.
void *cleat_alloc(uint32_t size);

// A buffer that a host function fills, and the answer. With data = cleat_buffer_for(256),
//
//   while (cleat_buffer_again(&data, cleat_host_config_get(data.ptr, data.limit)))
//       ;
//
// repeats the call when the buffer was too small. Then data.result is the length, or an error.
typedef struct cleat_buffer {
    void *ptr;
    uint32_t limit;
    int32_t result;
    uint32_t tries;
} cleat_buffer;

// Returns a buffer of at least size bytes. Use it up before the next call of cleat_alloc.
cleat_buffer cleat_buffer_for(uint32_t size);

// Takes the answer of a host function; true says to call it once more.
bool cleat_buffer_again(cleat_buffer *b, int32_t answer);

// Returns the answer, empty after an error.
cleat_str cleat_buffer_text(const cleat_buffer *b);

#endif
