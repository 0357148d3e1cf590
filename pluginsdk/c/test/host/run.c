// Starts the plugin, runs its hooks and says what they did.
#include "host.h"

#include <stdio.h>
#include <string.h>

// A plugin has the hooks of its points only.
extern __typeof__(cleat_datastore_plan) cleat_datastore_plan __attribute__((weak));
extern __typeof__(cleat_cni_plan) cleat_cni_plan __attribute__((weak));
extern __typeof__(cleat_deployer_render) cleat_deployer_render __attribute__((weak));
extern __typeof__(cleat_admission_mutate) cleat_admission_mutate __attribute__((weak));
extern __typeof__(cleat_admission_validate) cleat_admission_validate __attribute__((weak));

host_state host;
cleat_test_surroundings cleat_test;

static void begin(void) {
    host_clear(&host.output);
    host_clear(&host.error);
    host_clear(&host.deny);
    host_clear(&host.notes);
    host_clear(&host.mutations);
    host_clear(&host.logs);
    host_clear(&host.result);
    host.starting = host.planning = host.mutating = host.clusterless = false;
    host.request = NULL;
    host.object = host.old_object = (cleat_json){0};
    host.has_output = false;
    host.deny_code = 0;
    host.warnings = host.annotations = host.mutation_count = 0;
    host.random = 1;
}

static const char *say(const char *words, cleat_str text) {
    host_put_words(&host.result, words);
    host_put(&host.result, text);
    host_put_words(&host.result, "\n");
    return host.result.ptr;
}

static const char *end(void) {
    host_put(&host.result, host_str(&host.logs));
    return host.result.ptr;
}

static const char *failed(int32_t number) {
    cleat_str text = host_str(&host.error);
    say("error ", text.len > 0 ? text : cleat_str_of(cleat_errno_text(number)));
    host_state_end(false);
    return end();
}

static bool read_manifest(const char *file) {
    char part[4096];
    size_t n;
    FILE *f = fopen(file, "rb");
    host_clear(&host.manifest_text);
    if (f == NULL)
        return false;
    while ((n = fread(part, 1, sizeof part, f)) > 0 && host.manifest_text.len <= CLEAT_LIMIT_MANIFEST)
        host_put(&host.manifest_text, (cleat_str){part, (uint32_t)n});
    fclose(f);
    return cleat_json_parse(host_str(&host.manifest_text), &host.manifest);
}

const char *cleat_test_start(const char *manifest_file, const char *config) {
    begin();
    host_state_clear();
    while (host.path_count > 0)
        host_clear(&host.paths[--host.path_count]);
    if (!read_manifest(manifest_file))
        return say("error ", cleat_concat(cleat_str_of(manifest_file), CLEAT_STR(": is no manifest")));
    if (!host_configure(cleat_str_of(config)))
        return failed(CLEAT_EINVAL);
    host.starting = host.clusterless = true;
    int32_t n = cleat_init();
    if (n != 0)
        return failed(n);
    say("started", CLEAT_STR(""));
    return end();
}

static const char *admit(int32_t (*hook)(int32_t, uint64_t), const char *asked,
                         const cleat_test_request *r) {
    begin();
    cleat_json admission = cleat_json_get(host.manifest, CLEAT_STR("admission"));
    if (hook == NULL || !cleat_json_bool(cleat_json_get(admission, cleat_str_of(asked)), false))
        return say("error ", CLEAT_STR("the plugin has no such hook, or the manifest does not ask for it"));
    if ((r->object != NULL && !cleat_json_parse(cleat_str_of(r->object), &host.object)) ||
        (r->old_object != NULL && !cleat_json_parse(cleat_str_of(r->old_object), &host.old_object)))
        return say("error ", CLEAT_STR("the object of the test is not JSON"));
    uint64_t rules = host_match(r);
    if (rules == 0)
        return say("not entered", CLEAT_STR(""));

    host.request = r;
    int32_t n = hook(HOST_HANDLE, rules);
    host.request = NULL;
    if (n < 0 || n > CLEAT_DENY)
        return failed(n);
    if (n == CLEAT_DENY) {
        char code[32];
        snprintf(code, sizeof code, "deny %d ", host.deny_code == 0 ? 403 : (int)host.deny_code);
        say(code, host_str(&host.deny));
    } else {
        say("allow", CLEAT_STR(""));
    }
    host_put(&host.result, host_str(&host.notes));
    if (n == CLEAT_ALLOW)
        host_put(&host.result, host_str(&host.mutations));
    host_state_end(!r->dry_run);
    return end();
}

const char *cleat_test_validate(const cleat_test_request *request) {
    return admit(cleat_admission_validate, "validate", request);
}

// The hook runs while host.mutating is set, which begin clears.
static int32_t mutating_hook(int32_t handle, uint64_t rules) {
    host.mutating = true;
    return cleat_admission_mutate(handle, rules);
}

const char *cleat_test_mutate(const cleat_test_request *request) {
    return admit(cleat_admission_mutate != NULL ? mutating_hook : NULL, "mutate", request);
}

static const char *plan(int32_t (*hook)(void), bool clusterless, const char *input) {
    cleat_json v;
    begin();
    if (hook == NULL)
        return say("error ", CLEAT_STR("the plugin has no such hook"));
    if (!cleat_json_parse(cleat_str_of(input), &v))
        return say("error ", CLEAT_STR("the input of the test is not JSON"));
    host.input = v.text;
    host.planning = true;
    host.clusterless = clusterless;
    int32_t n = hook();
    if (n < 0 || n > CLEAT_NOT_MINE)
        return failed(n);
    if (n == CLEAT_NOT_MINE)
        say("not mine", CLEAT_STR(""));
    else if (host.has_output)
        say("output ", host_str(&host.output));
    else
        say("error ", CLEAT_STR("the hook decided without output_set"));
    host_state_end(true);
    return end();
}

const char *cleat_test_datastore(const char *input) { return plan(cleat_datastore_plan, true, input); }

const char *cleat_test_cni(const char *input) { return plan(cleat_cni_plan, false, input); }

const char *cleat_test_deploy(const char *input) { return plan(cleat_deployer_render, false, input); }

const char *cleat_test_deploy_file(const char *name, const char *content) {
    cleat_str file = cleat_str_of(name);
    cleat_writer w = {0};
    host_text input = {0};
    cleat_json_open(&w, '{');
    cleat_json_put_key(&w, CLEAT_STR("addon"));
    cleat_json_put_text(&w, cleat_str_to(file, cleat_str_find(file, '.')));
    cleat_json_put_key(&w, CLEAT_STR("content"));
    cleat_json_put_text(&w, cleat_str_of(content));
    cleat_json_put_key(&w, CLEAT_STR("file"));
    cleat_json_put_text(&w, file);
    cleat_json_put_key(&w, CLEAT_STR("kind"));
    cleat_json_put_text(&w, CLEAT_STR("file"));
    cleat_json_put_key(&w, CLEAT_STR("variables"));
    cleat_json_open(&w, '{');
    cleat_json_close(&w, '}');
    cleat_json_close(&w, '}');
    host_put(&input, cleat_written(&w));
    const char *did = cleat_test_deploy(input.ptr);
    host_clear(&input);
    return did;
}

static int expectations, failures;

void cleat_test_expect(const char *file, int line, const char *got, const char *want) {
    expectations++;
    if (strcmp(got, want) == 0)
        return;
    failures++;
    fprintf(stderr, "%s:%d:\n  got:  %s\n  want: %s\n", file, line, got, want);
}

int cleat_test_done(void) {
    printf("%d of %d expectations held\n", expectations - failures, expectations);
    return failures > 0;
}
