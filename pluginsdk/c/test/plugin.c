// A plugin that calls every function of the SDK. What its hooks do is its configuration.
#include <cleat/cleat.h>

static cleat_str what;
static cleat_path labels, containers, images, names, replicas, ratio, odd, args;

static void start(cleat_call *call) {
    cleat_json config = cleat_config(call);
    what = cleat_json_text(cleat_json_get(config, CLEAT_STR("what")));
    labels = cleat_register(call, CLEAT_STR("metadata.labels['x/y']"));
    containers = cleat_register(call, CLEAT_STR("spec.containers[*]"));
    images = cleat_register(call, CLEAT_STR("spec.containers[*].image"));
    names = cleat_register(call, CLEAT_STR("spec.containers[*].name"));
    replicas = cleat_register(call, CLEAT_STR("spec.replicas"));
    ratio = cleat_register(call, CLEAT_STR("spec.ratio"));
    odd = cleat_register(call, CLEAT_STR("spec['a.b/c\\'d']"));
    args = cleat_register(call, CLEAT_STR("spec.args"));
    cleat_json path = cleat_json_get(config, CLEAT_STR("path"));
    if (cleat_json_type_of(path) == CLEAT_JSON_STRING)
        cleat_register(call, cleat_json_text(path));
    cleat_log(CLEAT_LOG_INFO, CLEAT_STR("starting"));
}
CLEAT_START(start)

static bool is(const char *name) { return cleat_str_equal(what, cleat_str_of(name)); }

static void audit_list(cleat_call *call, const char *key, cleat_value list) {
    cleat_writer w = {0};
    cleat_value e;
    for (cleat_list l = cleat_value_list(list); cleat_list_next(&l, &e);) {
        cleat_put(&w, cleat_value_is_null(e) ? CLEAT_STR("-") : cleat_value_text(e));
        cleat_put_byte(&w, ';');
    }
    cleat_audit(call, cleat_str_of(key), cleat_written(&w));
}

static void request(cleat_call *call) {
    cleat_str fields[12], label;
    for (int32_t i = 0; i < 12; i++)
        fields[i] = cleat_request(call, i);
    cleat_audit(call, CLEAT_STR("fields"), cleat_join(fields, 12, CLEAT_STR(" ")));
    cleat_audit(call, CLEAT_STR("rules"), cleat_concat(cleat_rule(call, 0) ? CLEAT_STR("first ") : CLEAT_STR(""),
                                                       cleat_rule(call, 1) ? CLEAT_STR("second") : CLEAT_STR("")));
    if (cleat_namespace_label(call, CLEAT_STR("env"), &label))
        cleat_audit(call, CLEAT_STR("env"), label);
    if (cleat_namespace_label(call, CLEAT_STR("none"), &label))
        cleat_audit(call, CLEAT_STR("none"), label);
    audit_list(call, "groups", cleat_user_groups(call));
    audit_list(call, "extra", cleat_user_extra(call, CLEAT_STR("scopes")));
    if (cleat_value_is_null(cleat_user_extra(call, CLEAT_STR("none"))))
        cleat_warn(call, CLEAT_STR("no such extra"));
    if (cleat_request_dry_run(call))
        cleat_warn(call, CLEAT_STR("dry run"));
    cleat_audit(call, CLEAT_STR("object"), cleat_object(call).text);
    cleat_audit(call, CLEAT_STR("old"), cleat_old_object(call).text);
}

static void object(cleat_call *call) {
    int64_t n = -1;
    double f = -1;
    cleat_value_int(cleat_get(call, &replicas), &n);
    cleat_value_float(cleat_get(call, &ratio), &f);
    cleat_audit(call, CLEAT_STR("replicas"), cleat_decimal(n));
    cleat_audit(call, CLEAT_STR("ratio"), cleat_decimal((int64_t)(f * 100)));
    cleat_audit(call, CLEAT_STR("label"), cleat_value_text(cleat_get(call, &labels)));
    cleat_audit(call, CLEAT_STR("odd"), cleat_value_text(cleat_get(call, &odd)));
    audit_list(call, "names", cleat_get(call, &names));
    audit_list(call, "images", cleat_get(call, &images));
}

static void cluster(cleat_call *call) {
    cleat_value v;
    cleat_str kind = CLEAT_STR("v1/Namespace"), none = CLEAT_STR("");
    if (cleat_lookup(call, kind, none, CLEAT_STR("a"), CLEAT_STR("metadata.labels.team"), &v))
        cleat_audit(call, CLEAT_STR("team"), cleat_value_text(v));
    if (cleat_lookup(call, kind, none, CLEAT_STR("a"), none, &v))
        cleat_audit(call, CLEAT_STR("whole"), cleat_value_json(v));
    if (!cleat_lookup(call, kind, none, CLEAT_STR("c"), none, &v))
        cleat_warn(call, CLEAT_STR("no such namespace"));
    cleat_str name = CLEAT_STR("metadata.name");
    audit_list(call, "all", cleat_lookup_list(call, kind, none, none, name));
    audit_list(call, "red", cleat_lookup_list(call, kind, none, CLEAT_STR("team=red,!off"), name));
    audit_list(call, "not red", cleat_lookup_list(call, kind, none, CLEAT_STR("team!=red"), name));
}

static void state(cleat_call *call) {
    cleat_str old;
    if (cleat_state_get(call, CLEAT_STR("n"), &old))
        cleat_audit(call, CLEAT_STR("was"), old);
    cleat_state_set(call, CLEAT_STR("n"), cleat_concat(old, CLEAT_STR("x")));
    cleat_state_get(call, CLEAT_STR("n"), &old);
    cleat_audit(call, CLEAT_STR("is"), old);
}

static void validate(cleat_call *call) {
    char bytes[4];
    if (is("request")) {
        request(call);
    } else if (is("object")) {
        object(call);
    } else if (is("cluster")) {
        cluster(call);
    } else if (is("state")) {
        state(call);
    } else if (is("deny")) {
        cleat_deny(call, CLEAT_STR("first"));
        cleat_deny_status(call, 422, CLEAT_STR("second"));
    } else if (is("status")) {
        cleat_deny_status(call, 200, CLEAT_STR("no denial"));
    } else if (is("fail")) {
        cleat_deny(call, CLEAT_STR("denied"));
        cleat_fail(call, CLEAT_STR("first failure"));
        cleat_fail(call, CLEAT_STR("second failure"));
        cleat_warn(call, CLEAT_STR("not any more"));
    } else if (is("selector")) {
        cleat_lookup_list(call, CLEAT_STR("v1/Namespace"), CLEAT_STR(""), CLEAT_STR("a in (b)"), CLEAT_STR(""));
    } else if (is("grant")) {
        cleat_lookup_list(call, CLEAT_STR("v1/Secret"), CLEAT_STR(""), CLEAT_STR(""), CLEAT_STR(""));
    } else if (is("set")) {
        cleat_set_bool(call, &replicas, CLEAT_SINGLE, true); // not in this hook
    } else if (is("random")) {
        cleat_random(call, bytes, sizeof bytes);
        bool same = bytes[0] == bytes[1] && bytes[1] == bytes[2] && bytes[2] == bytes[3];
        cleat_audit(call, CLEAT_STR("random"), same ? CLEAT_STR("no") : CLEAT_STR("yes"));
        cleat_audit(call, CLEAT_STR("now"), cleat_decimal(cleat_now()));
    } else if (is("too random")) {
        cleat_random(call, cleat_alloc(5000), 5000);
    }
}
CLEAT_VALIDATE(validate)

static void mutate(cleat_call *call) {
    if (is("read only")) {
        cleat_set_string(call, &names, 0, CLEAT_STR("a"));
        return;
    }
    if (is("index")) {
        cleat_set_string(call, &images, 2, CLEAT_STR("a"));
        return;
    }
    cleat_writer w = {0};
    cleat_value_put_list(&w, 2);
    cleat_value_put_float(&w, 0.5);
    cleat_value_put_null(&w);
    cleat_set_bool(call, &labels, CLEAT_SINGLE, true);
    cleat_set_int(call, &replicas, CLEAT_SINGLE, -3);
    cleat_set_string(call, &images, 1, CLEAT_STR("i\"1"));
    cleat_set_json(call, &args, CLEAT_SINGLE, CLEAT_STR("{\"a\":[]}"));
    cleat_set(call, &args, CLEAT_SINGLE, cleat_written(&w));
    cleat_remove(call, &images, 0);
    cleat_append_string(call, &args, CLEAT_SINGLE, CLEAT_STR("s"));
    cleat_append_json(call, &args, CLEAT_SINGLE, CLEAT_STR("{}"));
    if (is("deny"))
        cleat_deny(call, CLEAT_STR("after all"));
}
CLEAT_MUTATE(mutate)

static void datastore(cleat_call *call) {
    cleat_value v;
    if (is("cluster"))
        cleat_lookup(call, CLEAT_STR("v1/Namespace"), CLEAT_STR(""), CLEAT_STR("a"), CLEAT_STR(""), &v);
    cleat_output(call, cleat_json_get(cleat_input(call), CLEAT_STR("plan")).text);
}
CLEAT_DATASTORE(datastore)

static void cni(cleat_call *call) {
    if (is("nothing"))
        return;
    cleat_output(call, CLEAT_STR("{}"));
    cleat_not_mine(call);
    if (is("malformed"))
        cleat_output(call, CLEAT_STR("{"));
}
CLEAT_CNI(cni)

static void render(cleat_call *call) {
    cleat_json chart = cleat_render_helm(call, CLEAT_STR("{\"release\":\"a\",\"namespace\":\"b\"}"));
    cleat_json objects = cleat_render_kustomize(call, CLEAT_STR("{}"));
    cleat_output(call, cleat_concat(CLEAT_STR("["), chart.text, CLEAT_STR(","), objects.text, CLEAT_STR("]")));
}
CLEAT_DEPLOYER(render)
