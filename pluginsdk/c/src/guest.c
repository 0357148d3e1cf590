#include "internal.h"

#include <string.h>

void cleat_abi_1(void) {}

// A plugin without CLEAT_START needs no start.
__attribute__((weak)) int32_t cleat_init(void) { return cleat_run_start(NULL); }

int32_t cleat_run_start(void (*start)(cleat_call *call)) {
    cleat_memory_clear();
    cleat_call call = {0};
    if (start != NULL)
        start(&call);
    cleat_memory_keep();
    return call.error;
}

void cleat_fail(cleat_call *call, cleat_str text) {
    if (call->error != 0)
        return;
    call->error = CLEAT_EINVAL;
    cleat_host_error_set(text.ptr, text.len);
}

void cleat_fail_errno(cleat_call *call, int32_t number, cleat_str text) {
    if (call->error != 0)
        return;
    cleat_fail(call, cleat_concat(text, CLEAT_STR(": "), cleat_str_of(cleat_errno_text(number))));
    call->error = number;
}

bool cleat_check(cleat_call *call, int32_t answer, cleat_str what, cleat_str detail) {
    if (answer >= 0)
        return true;
    cleat_str space = detail.len > 0 ? CLEAT_STR(" ") : CLEAT_STR("");
    cleat_fail_errno(call, answer, cleat_concat(what, space, detail));
    return false;
}

void cleat_log(int32_t level, cleat_str text) { cleat_host_log(level, text.ptr, text.len); }

cleat_json cleat_config(cleat_call *call) {
    cleat_buffer b = cleat_buffer_for(1024);
    while (cleat_buffer_again(&b, cleat_host_config_get(b.ptr, b.limit)))
        ;
    return cleat_buffer_json(call, &b, CLEAT_STR("configuration"));
}

int64_t cleat_now(void) { return cleat_host_now(); }

void cleat_random(cleat_call *call, void *buf, uint32_t size) {
    memset(buf, 0, size); // so that a failure is no surprise
    if (call->error == 0)
        cleat_check(call, cleat_host_random(buf, size), CLEAT_STR("random"), CLEAT_STR(""));
}

cleat_buffer cleat_buffer_for(uint32_t size) {
    cleat_buffer b = {0};
    b.ptr = cleat_memory_reserve(size, &b.limit);
    return b;
}

bool cleat_buffer_again(cleat_buffer *b, int32_t answer) {
    uint32_t used = answer < 0 ? 0 : (uint32_t)answer;
    b->result = answer;
    if (used <= b->limit) {
        cleat_memory_shrink(b->ptr, b->limit, used);
        return false;
    }
    cleat_memory_shrink(b->ptr, b->limit, 0);
    // The length may change between two calls only if the host is broken.
    if (++b->tries == 3) {
        b->result = CLEAT_EIO;
        return false;
    }
    b->ptr = cleat_memory_reserve(used, &b->limit);
    return true;
}

cleat_str cleat_buffer_text(const cleat_buffer *b) {
    if (b->result < 0)
        return (cleat_str){"", 0};
    return (cleat_str){b->ptr, (uint32_t)b->result};
}

cleat_value cleat_buffer_value(cleat_call *call, const cleat_buffer *b, cleat_str what,
                               cleat_str detail) {
    cleat_value v = {0};
    cleat_str rest;
    if (!cleat_check(call, b->result, what, detail))
        return v;
    if (!cleat_value_parse(cleat_buffer_text(b), &v, &rest) || rest.len > 0) {
        cleat_check(call, CLEAT_EIO, what, detail);
        return (cleat_value){0};
    }
    return v;
}

cleat_json cleat_buffer_json(cleat_call *call, const cleat_buffer *b, cleat_str what) {
    cleat_json v = {0};
    if (!cleat_check(call, b->result, what, CLEAT_STR("")))
        return v;
    if (!cleat_json_parse(cleat_buffer_text(b), &v))
        cleat_check(call, CLEAT_EIO, what, CLEAT_STR(""));
    return v;
}
