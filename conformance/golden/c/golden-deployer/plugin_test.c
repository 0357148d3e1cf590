#include <cleat/test.h>

#define MAP "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}"

int main(void) {
    CLEAT_EXPECT(cleat_test_start("manifest.json", "{}"), "started\n");
    CLEAT_EXPECT(cleat_test_deploy_file("a.yaml", MAP), "not mine\n");
    CLEAT_EXPECT(cleat_test_deploy_file("a.golden.yaml", "---\n" MAP "\n---\n\n---\n" MAP),
                 "output {\"objects\":[" MAP "," MAP "]}\n");
    CLEAT_EXPECT(cleat_test_deploy_file("\"a\".golden.yaml", ""),
                 "output {\"objects\":[],\"warnings\":[\"\\\"a\\\".golden.yaml: has no objects\"]}\n");
    CLEAT_EXPECT(cleat_test_deploy_file("a.golden.yaml", "a: b"),
                 "error the test host reads YAML only where it is JSON\n");
    return cleat_test_done();
}
