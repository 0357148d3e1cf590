// The golden guest of the point admission: pods take tagged images from the registries that are
// allowed.
#include <cleat/cleat.h>

// One of the lists of containers in a pod.
typedef struct image_list {
    cleat_str field;
    cleat_path images;
} image_list;

// The configuration, and the fields the policy looks at.
static struct {
    const cleat_str *registries;
    uint32_t registry_count;
    cleat_str team_label;

    cleat_path labels, checked;
    image_list lists[2];
} golden;

static void start(cleat_call *call) {
    golden.labels = cleat_register(call, CLEAT_STR("metadata.labels"));
    golden.checked = cleat_register(call, CLEAT_STR("metadata.labels['golden.cleat.dev/checked']"));
    golden.lists[0] = (image_list){
        CLEAT_STR("spec.initContainers"),
        cleat_register(call, CLEAT_STR("spec.initContainers[*].image")),
    };
    golden.lists[1] = (image_list){
        CLEAT_STR("spec.containers"),
        cleat_register(call, CLEAT_STR("spec.containers[*].image")),
    };

    cleat_json config = cleat_config(call);
    golden.registries =
        cleat_json_strings(cleat_json_get(config, CLEAT_STR("registries")), &golden.registry_count);
    golden.team_label = cleat_json_text(cleat_json_get(config, CLEAT_STR("team_label")));
    if (golden.registry_count == 0)
        cleat_fail(call, CLEAT_STR("registries: is empty; name at least one registry"));
}
CLEAT_START(start)

static void mutate(cleat_call *call) {
    if (cleat_value_is_null(cleat_get(call, &golden.checked)))
        cleat_set_string(call, &golden.checked, CLEAT_SINGLE, CLEAT_STR("true"));
}
CLEAT_MUTATE(mutate)

// Reports whether an image comes from one of the registries.
static bool allowed(cleat_str image) {
    for (uint32_t i = 0; i < golden.registry_count; i++) {
        cleat_str registry = golden.registries[i];
        if (cleat_str_has_prefix(image, registry) && image.len > registry.len &&
            image.ptr[registry.len] == '/')
            return true;
    }
    return false;
}

// Says what is wrong with an image, nothing when it is in order.
static cleat_str wrong(cleat_str image) {
    cleat_str quote = CLEAT_STR("\"");
    if (image.len == 0)
        return CLEAT_STR("has no image; name one");
    if (!allowed(image))
        return cleat_concat(
            quote, image, CLEAT_STR("\" is not from an allowed registry; use one of "),
            cleat_join(golden.registries, golden.registry_count, CLEAT_STR(", ")));

    uint32_t slash = cleat_str_find_last(image, '/');
    cleat_str name = slash == CLEAT_NONE ? image : cleat_str_from(image, slash + 1);
    if (cleat_str_find(name, '@') != CLEAT_NONE)
        return CLEAT_STR("");
    uint32_t colon = cleat_str_find_last(name, ':');
    if (colon == CLEAT_NONE)
        return cleat_concat(quote, image, CLEAT_STR("\" has no tag; add one, such as :1.0"));
    if (cleat_str_equal(cleat_str_from(name, colon + 1), CLEAT_STR("latest")))
        return cleat_concat(quote, image, CLEAT_STR("\" is tagged latest; name a version"));
    return CLEAT_STR("");
}

// Reports whether the pod has the team's label.
static bool labelled(cleat_call *call) {
    cleat_json labels;
    cleat_json_parse(cleat_value_json(cleat_get(call, &golden.labels)), &labels);
    return cleat_json_type_of(cleat_json_get(labels, golden.team_label)) > CLEAT_JSON_NULL;
}

static void validate(cleat_call *call) {
    int64_t count = 0;
    for (uint32_t l = 0; l < 2; l++) {
        cleat_list images = cleat_value_list(cleat_get(call, &golden.lists[l].images));
        cleat_value image;
        for (int64_t i = 0; cleat_list_next(&images, &image); i++) {
            cleat_str why = wrong(cleat_value_text(image));
            if (why.len > 0) {
                cleat_deny(call, cleat_concat(golden.lists[l].field, CLEAT_STR("["),
                                              cleat_decimal(i), CLEAT_STR("].image: "), why));
                return;
            }
            count++;
        }
    }
    cleat_audit(call, CLEAT_STR("images"), cleat_decimal(count));
    if (golden.team_label.len > 0 && !labelled(call))
        cleat_warn(call, cleat_concat(CLEAT_STR("metadata.labels: has no label \""),
                                      golden.team_label, CLEAT_STR("\"; add one")));
}
CLEAT_VALIDATE(validate)
