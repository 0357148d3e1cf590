#include "internal.h"

int32_t cleat_run_plan(void (*handler)(cleat_call *call)) {
    cleat_memory_reset();
    cleat_call call = {.result = CLEAT_DECIDED};
    handler(&call);
    if (!call.decided)
        cleat_fail(&call, CLEAT_STR("the plugin decided nothing; call cleat_output or cleat_not_mine"));
    return call.error != 0 ? call.error : call.result;
}

cleat_json cleat_input(cleat_call *call) {
    if (call->error != 0)
        return (cleat_json){0};
    cleat_buffer b = cleat_buffer_for(8192);
    while (cleat_buffer_again(&b, cleat_host_input_get(b.ptr, b.limit)))
        ;
    return cleat_buffer_json(call, &b, CLEAT_STR("input"));
}

void cleat_output(cleat_call *call, cleat_str json) {
    if (call->error != 0)
        return;
    call->decided = true;
    call->result = CLEAT_DECIDED;
    cleat_check(call, cleat_host_output_set(json.ptr, json.len), CLEAT_STR("output"), CLEAT_STR(""));
}

void cleat_not_mine(cleat_call *call) {
    call->decided = true;
    call->result = CLEAT_NOT_MINE;
}

// Takes what a renderer answered. The host has said already what is wrong with the input.
static cleat_json rendered(cleat_call *call, const cleat_buffer *b, cleat_str what) {
    if (b->result < 0) {
        call->error = b->result;
        return (cleat_json){0};
    }
    return cleat_buffer_json(call, b, what);
}

cleat_json cleat_render_yaml(cleat_call *call, cleat_str text) {
    if (call->error != 0)
        return (cleat_json){0};
    cleat_buffer b = cleat_buffer_for(text.len > 65536 ? text.len : 65536);
    while (cleat_buffer_again(&b, cleat_host_render_yaml(text.ptr, text.len, b.ptr, b.limit)))
        ;
    return rendered(call, &b, CLEAT_STR("render YAML"));
}

cleat_json cleat_render_helm(cleat_call *call, cleat_str request) {
    if (call->error != 0)
        return (cleat_json){0};
    cleat_buffer b = cleat_buffer_for(65536);
    while (cleat_buffer_again(&b, cleat_host_render_helm(request.ptr, request.len, b.ptr, b.limit)))
        ;
    return rendered(call, &b, CLEAT_STR("render a chart"));
}

cleat_json cleat_render_kustomize(cleat_call *call, cleat_str request) {
    if (call->error != 0)
        return (cleat_json){0};
    cleat_buffer b = cleat_buffer_for(65536);
    while (
        cleat_buffer_again(&b, cleat_host_render_kustomize(request.ptr, request.len, b.ptr, b.limit)))
        ;
    return rendered(call, &b, CLEAT_STR("build a kustomization"));
}
