// The SDK on the test host, through a plugin that calls all of it.
#include "check.h"

// Starts the plugin so that its hooks do that.
static void starts(const char *what) {
    char config[64];
    snprintf(config, sizeof config, "{\"what\":\"%s\"}", what);
    CLEAT_EXPECT(cleat_test_start("test/plugin.json", config), "started\nlog starting\n");
}

static const char *start_error(const char *config) {
    return cleat_test_start("test/plugin.json", config);
}

static const cleat_test_request empty = {.resource = "pods"};

static void configuration(void) {
    CLEAT_EXPECT(cleat_test_start("test/none.json", "{}"), "error test/none.json: is no manifest\n");
    CLEAT_EXPECT(start_error("[]"), "error config key \"\": the configuration is no JSON object\n");
    CLEAT_EXPECT(start_error("{\"whta\":\"\"}"), "error config key \"whta\": is unknown to the plugin\n");
    CLEAT_EXPECT(start_error("{\"what\":1}"),
                 "error config key \"what\": has another type than the schema says\n");
    CLEAT_EXPECT(start_error("{\"names\":[1]}"),
                 "error config key \"names\": has another type than the schema says\n");
    CLEAT_EXPECT(start_error("{\"names\":[\"a\"],\"count\":1,\"on\":true,\"map\":{\"a\":\"b\"}}"),
                 "started\nlog starting\n");
    CLEAT_EXPECT(start_error("{\"path\":\"spec.other\"}"),
                 "error field path spec.other: not declared in the manifest or not granted by the lock "
                 "(EACCES); list it under read_paths or write_paths of the manifest\nlog starting\n");
    static const char *const wrong[] = {"", ".a", "a.", "a..b", "[*]", "a[", "a['", "a['']", "a['b'", "a[0]", "a b"};
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char config[64];
        snprintf(config, sizeof config, "{\"path\":\"%s\"}", wrong[i]);
        CHECK(strstr(start_error(config), "malformed argument (EINVAL)") != NULL);
    }
}

static void requests(void) {
    starts("request");
    cleat_test_request r = {
        .operation = "UPDATE", .group = "apps", .version = "v1", .kind = "Deployment",
        .resource = "deployments", .subresource = "scale", .namespace_ = "ns", .name = "web",
        .id = "r1", .user = "alice", .user_uid = "u1", .dry_run = true,
        .user_groups = "[\"dev\",\"ops\"]", .user_extra = "{\"scopes\":[\"a\"]}",
        .namespace_labels = "{\"env\":\"prod\"}", .object = "{\"a\":1}",
    };
    r.operation = "CREATE";
    CLEAT_EXPECT(cleat_test_validate(&r),
                 "allow\n"
                 "audit fields = CREATE apps v1 Deployment deployments scale ns web alice true r1 u1\n"
                 "audit rules = first \n"
                 "audit env = prod\n"
                 "audit groups = dev;ops;\n"
                 "audit extra = a;\n"
                 "warn no such extra\n"
                 "warn dry run\n"
                 "audit object = {\"a\":1}\n"
                 "audit old = null\n");
    r = empty;
    r.namespace_labels = "{\"env\":\"prod\"}";
    CHECK(strstr(cleat_test_validate(&r), "audit rules = first second\n") != NULL);
    r.namespace_labels = "{\"env\":\"off\"}";
    CLEAT_EXPECT(cleat_test_validate(&r), "not entered\n");
    r.namespace_labels = "{\"skip\":\"\"}";
    CLEAT_EXPECT(cleat_test_validate(&r), "not entered\n");
    r = empty;
    r.version = "v2";
    CLEAT_EXPECT(cleat_test_validate(&r), "not entered\n");
}

// More text than any buffer of the SDK has at first.
static void big_values(void) {
    char object[40000] = "{\"metadata\":{\"labels\":{\"x/y\":\"";
    size_t begin = strlen(object);
    memset(object + begin, 'l', 30000);
    strcpy(object + begin + 30000, "\"}}}");
    cleat_test_request r = {.resource = "pods", .object = object};
    starts("object");
    const char *label = strstr(cleat_test_validate(&r), "audit label = ");
    CHECK(label != NULL && strspn(label + strlen("audit label = "), "l") == CLEAT_LIMIT_TEXT);
}

static void objects(void) {
    starts("object");
    cleat_test_request r = {
        .resource = "pods",
        .object = "{\"metadata\":{\"labels\":{\"x/y\":\"z\"}},\"spec\":{\"replicas\":3.0,\"ratio\":0.25,"
                  "\"a.b/c'd\":\"odd\",\"containers\":[{\"name\":\"a\",\"image\":\"i\"},{\"name\":\"b\"},7]}}",
    };
    CLEAT_EXPECT(cleat_test_validate(&r), "allow\n"
                                          "audit replicas = 3\n"
                                          "audit ratio = 25\n"
                                          "audit label = z\n"
                                          "audit odd = odd\n"
                                          "audit names = a;b;-;\n"
                                          "audit images = i;-;-;\n");
    CLEAT_EXPECT(cleat_test_validate(&empty), "allow\n"
                                              "audit replicas = -1\n"
                                              "audit ratio = -100\n"
                                              "audit label = \n"
                                              "audit odd = \n"
                                              "audit names = \n"
                                              "audit images = \n");
    big_values();
}

static void mutations(void) {
    starts("");
    cleat_test_request r = {.resource = "pods", .object = "{\"spec\":{\"containers\":[{},{}]}}"};
    CLEAT_EXPECT(cleat_test_mutate(&r), "allow\n"
                                        "set metadata.labels['x/y'] true\n"
                                        "set spec.replicas -3\n"
                                        "set spec.containers[*].image 1 \"i\\\"1\"\n"
                                        "set spec.args {\"a\":[]}\n"
                                        "set spec.args [0.5,null]\n"
                                        "remove spec.containers[*].image 0\n"
                                        "append spec.args \"s\"\n"
                                        "append spec.args {}\n");
    starts("deny");
    CLEAT_EXPECT(cleat_test_mutate(&r), "deny 403 after all\n");
    starts("read only");
    CLEAT_EXPECT(cleat_test_mutate(&r), "error set spec.containers[*].name: not declared in the manifest or "
                                        "not granted by the lock (EACCES)\n");
    starts("index");
    CLEAT_EXPECT(cleat_test_mutate(&r), "error set spec.containers[*].image: no such entry (ENOENT)\n");
    starts("set");
    CLEAT_EXPECT(cleat_test_validate(&r), "error set spec.replicas: not supported here (ENOTSUP)\n");
}

static void verdicts(void) {
    starts("deny");
    CLEAT_EXPECT(cleat_test_validate(&empty), "deny 422 second\n");
    starts("status");
    CLEAT_EXPECT(cleat_test_validate(&empty), "error deny: malformed argument (EINVAL)\n");
    starts("fail");
    CLEAT_EXPECT(cleat_test_validate(&empty), "error first failure\n");
    starts("random");
    cleat_test.now = 5;
    CLEAT_EXPECT(cleat_test_validate(&empty), "allow\naudit random = yes\naudit now = 5\n");
    starts("too random");
    CLEAT_EXPECT(cleat_test_validate(&empty), "error random: over a limit (E2BIG)\n");
}

static void cluster(void) {
    cleat_test.objects =
        "[{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\",\"labels\":{\"team\":\"red\"}}},"
        "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"b\",\"labels\":{\"off\":\"\"}}},"
        "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"a\"}}]";
    starts("cluster");
    CLEAT_EXPECT(cleat_test_validate(&empty),
                 "allow\n"
                 "audit team = red\n"
                 "audit whole = {\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":"
                 "{\"name\":\"a\",\"labels\":{\"team\":\"red\"}}}\n"
                 "warn no such namespace\n"
                 "audit all = a;b;\n"
                 "audit red = a;\n"
                 "audit not red = b;\n");
    CLEAT_EXPECT(cleat_test_datastore("{\"plan\":{}}"), "error look up v1/Namespace: not supported here (ENOTSUP)\n");
    cleat_test.cluster_error = CLEAT_EIO;
    CLEAT_EXPECT(cleat_test_validate(&empty), "error look up v1/Namespace: host failure (EIO)\n");
    cleat_test.cluster_error = 0;
    starts("selector");
    CLEAT_EXPECT(cleat_test_validate(&empty), "error look up v1/Namespace: malformed argument (EINVAL)\n");
    starts("grant");
    CHECK(strstr(cleat_test_validate(&empty), "look up v1/Secret: not declared") != NULL);
}

static void state(void) {
    starts("state");
    CLEAT_EXPECT(cleat_test_validate(&empty), "allow\naudit is = x\nstate n = x\n");
    cleat_test_request dry = {.resource = "pods", .dry_run = true};
    CLEAT_EXPECT(cleat_test_validate(&dry), "allow\naudit was = x\naudit is = xx\n");
    CLEAT_EXPECT(cleat_test_validate(&empty), "allow\naudit was = x\naudit is = xx\nstate n = xx\n");
    starts("state");
    CLEAT_EXPECT(cleat_test_validate(&empty), "allow\naudit is = x\nstate n = x\n");
}

static void plans(void) {
    starts("");
    CLEAT_EXPECT(cleat_test_datastore("{\"plan\":{\"driver\":\"kine\"}}"), "output {\"driver\":\"kine\"}\n");
    CLEAT_EXPECT(cleat_test_cni("{}"), "not mine\n");
    CLEAT_EXPECT(cleat_test_deploy("{}"), "error not supported here (ENOTSUP)\n");
    cleat_test.helm = "{\"name\":\"c\"}";
    cleat_test.kustomize = "[]";
    CLEAT_EXPECT(cleat_test_deploy("{}"), "output [{\"name\":\"c\"},[]]\n");
    starts("nothing");
    CLEAT_EXPECT(cleat_test_cni("{}"),
                 "error the plugin decided nothing; call cleat_output or cleat_not_mine\n");
    starts("malformed");
    CLEAT_EXPECT(cleat_test_cni("{}"), "error output: malformed argument (EINVAL)\n");
}

int main(void) {
    configuration();
    requests();
    objects();
    mutations();
    verdicts();
    cluster();
    state();
    plans();
    return cleat_test_done();
}
