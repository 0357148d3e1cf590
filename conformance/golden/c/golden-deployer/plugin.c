// The golden guest of the point deployer: it deploys the documents of files that end in
// .golden.yaml.
#include <cleat/cleat.h>

static void render(cleat_call *call) {
    cleat_json input = cleat_input(call);
    cleat_str file = cleat_json_text(cleat_json_get(input, CLEAT_STR("file")));
    if (!cleat_str_has_suffix(file, CLEAT_STR(".golden.yaml"))) {
        cleat_not_mine(call);
        return;
    }
    cleat_str content = cleat_json_text(cleat_json_get(input, CLEAT_STR("content")));
    cleat_json_items documents = cleat_json_each(cleat_render_yaml(call, content));

    cleat_writer w = {0};
    cleat_json document;
    bool empty = true;
    cleat_json_open(&w, '{');
    cleat_json_put_key(&w, CLEAT_STR("objects"));
    cleat_json_open(&w, '[');
    while (cleat_json_next(&documents, &document)) {
        if (cleat_json_type_of(document) == CLEAT_JSON_NULL)
            continue;
        cleat_json_put(&w, document);
        empty = false;
    }
    cleat_json_close(&w, ']');
    if (empty) {
        cleat_json_put_key(&w, CLEAT_STR("warnings"));
        cleat_json_open(&w, '[');
        cleat_json_put_text(&w, cleat_concat(file, CLEAT_STR(": has no objects")));
        cleat_json_close(&w, ']');
    }
    cleat_json_close(&w, '}');
    cleat_output(call, cleat_written(&w));
}
CLEAT_DEPLOYER(render)
