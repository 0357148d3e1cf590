#include <cleat/test.h>

// A pod whose containers are these.
#define POD(labels, init, containers)                                                              \
    "{\"metadata\":{\"labels\":" labels "},\"spec\":{\"initContainers\":[" init                    \
    "],\"containers\":[" containers "]}}"
#define IMAGE(image) "{\"image\":\"" image "\"}"
#define TEAM "{\"team\":\"red\"}"

static const char *validate(const char *object) {
    cleat_test_request r = {.resource = "pods", .object = object};
    return cleat_test_validate(&r);
}

static const char *mutate(const char *object) {
    cleat_test_request r = {.resource = "pods", .operation = "UPDATE", .object = object};
    return cleat_test_mutate(&r);
}

static void images(void) {
    CLEAT_EXPECT(cleat_test_start("manifest.json", "{\"registries\":[\"a.test\",\"b.test/x\"]}"),
                 "started\n");
    CLEAT_EXPECT(validate(POD(TEAM, IMAGE("a.test/i:1"), IMAGE("b.test/x/y@sha256:0"))),
                 "allow\naudit images = 2\n");
    CLEAT_EXPECT(validate("{}"),
                 "allow\naudit images = 0\nwarn metadata.labels: has no label \"team\"; add one\n");
    CLEAT_EXPECT(validate(POD(TEAM, "", IMAGE("a.test/i:1") ",{\"name\":\"none\"}")),
                 "deny 403 spec.containers[1].image: has no image; name one\n");
    CLEAT_EXPECT(validate(POD(TEAM, IMAGE("a.test:1"), "")),
                 "deny 403 spec.initContainers[0].image: \"a.test:1\" is not from an allowed registry; "
                 "use one of a.test, b.test/x\n");
    CLEAT_EXPECT(validate(POD(TEAM, "", IMAGE("a.test/with:port/i"))),
                 "deny 403 spec.containers[0].image: \"a.test/with:port/i\" has no tag; "
                 "add one, such as :1.0\n");
    CLEAT_EXPECT(validate(POD(TEAM, "", IMAGE("a.test/i:latest"))),
                 "deny 403 spec.containers[0].image: \"a.test/i:latest\" is tagged latest; "
                 "name a version\n");
    CLEAT_EXPECT(validate(POD(TEAM, "", IMAGE("a.test/i:latest@sha256:0"))),
                 "allow\naudit images = 1\n");
}

static void configuration(void) {
    CLEAT_EXPECT(cleat_test_start("manifest.json", "{\"registries\":[]}"),
                 "error registries: is empty; name at least one registry\n");
    CLEAT_EXPECT(cleat_test_start("manifest.json", "{\"team_label\":\"\"}"), "started\n");
    CLEAT_EXPECT(validate(POD("null", "", IMAGE("registry.local/i:1"))), "allow\naudit images = 1\n");
}

static void mutation(void) {
    CLEAT_EXPECT(cleat_test_start("manifest.json", "{}"), "started\n");
    CLEAT_EXPECT(mutate("{}"), "allow\nset metadata.labels['golden.cleat.dev/checked'] \"true\"\n");
    CLEAT_EXPECT(mutate(POD("{\"golden.cleat.dev/checked\":\"\"}", "", "")), "allow\n");
    cleat_test_request service = {.resource = "services", .object = "{}"};
    CLEAT_EXPECT(cleat_test_mutate(&service), "not entered\n");
}

int main(void) {
    images();
    configuration();
    mutation();
    return cleat_test_done();
}
