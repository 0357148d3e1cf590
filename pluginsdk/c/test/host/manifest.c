// What the manifest says: capabilities, configuration and rules.
#include "host.h"

bool host_has(cleat_json array, cleat_str text) {
    cleat_json item;
    for (cleat_json_items items = cleat_json_each(array); cleat_json_next(&items, &item);) {
        if (cleat_str_equal(cleat_json_text(item), text))
            return true;
    }
    return false;
}

bool host_allows(const char *module) {
    return host_has(cleat_json_get(host.manifest, CLEAT_STR("capabilities")), cleat_str_of(module));
}

static bool all_strings(cleat_json v) {
    cleat_json item;
    cleat_str key;
    cleat_json_items items = cleat_json_each(v);
    while (cleat_json_next(&items, &item) || cleat_json_next_member(&items, &key, &item)) {
        if (cleat_json_type_of(item) != CLEAT_JSON_STRING)
            return false;
    }
    return true;
}

// Reports whether a value has a type of the configuration schema.
static bool fits(cleat_json v, cleat_str type) {
    int64_t n;
    cleat_json_type have = cleat_json_type_of(v);
    if (cleat_str_equal(type, CLEAT_STR("string")))
        return have == CLEAT_JSON_STRING;
    if (cleat_str_equal(type, CLEAT_STR("bool")))
        return have == CLEAT_JSON_BOOL;
    if (cleat_str_equal(type, CLEAT_STR("integer")))
        return cleat_json_int(v, &n);
    if (cleat_str_equal(type, CLEAT_STR("strings")))
        return have == CLEAT_JSON_ARRAY && all_strings(v);
    return cleat_str_equal(type, CLEAT_STR("map")) && have == CLEAT_JSON_OBJECT && all_strings(v);
}

static bool wrong_config(cleat_str key, const char *why) {
    host_clear(&host.error);
    host_put(&host.error, cleat_concat(CLEAT_STR("config key \""), key, CLEAT_STR("\": "),
                                       cleat_str_of(why)));
    return false;
}

bool host_configure(cleat_str given_text) {
    cleat_json given, field, value, schema = cleat_json_get(host.manifest, CLEAT_STR("config_schema"));
    cleat_str key;
    if (!cleat_json_parse(given_text, &given) || cleat_json_type_of(given) != CLEAT_JSON_OBJECT)
        return wrong_config(CLEAT_STR(""), "the configuration is no JSON object");
    for (cleat_json_items items = cleat_json_each(given); cleat_json_next_member(&items, &key, &value);) {
        field = cleat_json_get(schema, key);
        if (field.text.len == 0)
            return wrong_config(key, "is unknown to the plugin");
        if (!fits(value, cleat_json_text(cleat_json_get(field, CLEAT_STR("type")))))
            return wrong_config(key, "has another type than the schema says");
    }
    cleat_writer w = {0};
    cleat_json_open(&w, '{');
    for (cleat_json_items items = cleat_json_each(schema); cleat_json_next_member(&items, &key, &field);) {
        value = cleat_json_get(given, key);
        if (value.text.len == 0)
            value = cleat_json_get(field, CLEAT_STR("default"));
        if (value.text.len == 0)
            continue;
        cleat_json_put_key(&w, key);
        cleat_json_put(&w, value);
    }
    cleat_json_close(&w, '}');
    host_clear(&host.config);
    host_put(&host.config, cleat_written(&w));
    return true;
}

static bool has(cleat_json rule, const char *list, const char *value, const char *otherwise) {
    cleat_json array = cleat_json_get(rule, cleat_str_of(list));
    return host_has(array, CLEAT_STR("*")) ||
           host_has(array, cleat_str_of(value != NULL ? value : otherwise));
}

// Reports whether a rule's resources, such as pods, pods/exec, pods/* or */*, have the request's.
static bool has_resource(cleat_json rule, const cleat_test_request *r) {
    cleat_str resource = cleat_str_of(r->resource != NULL ? r->resource : "");
    cleat_str sub = cleat_str_of(r->subresource != NULL ? r->subresource : "");
    cleat_json item;
    cleat_json_items items = cleat_json_each(cleat_json_get(rule, CLEAT_STR("resources")));
    while (cleat_json_next(&items, &item)) {
        cleat_str v = cleat_json_text(item), name = v, rest = CLEAT_STR("");
        uint32_t slash = cleat_str_find(v, '/');
        if (slash != CLEAT_NONE) {
            name = cleat_str_to(v, slash);
            rest = cleat_str_from(v, slash + 1);
        }
        if (!cleat_str_equal(name, CLEAT_STR("*")) && !cleat_str_equal(name, resource))
            continue;
        if (cleat_str_equal(rest, sub) || cleat_str_equal(v, CLEAT_STR("*/*")) ||
            (cleat_str_equal(rest, CLEAT_STR("*")) && sub.len > 0))
            return true;
    }
    return false;
}

static bool expression_fits(cleat_json e, cleat_json labels) {
    cleat_json have = cleat_json_get(labels, cleat_json_text(cleat_json_get(e, CLEAT_STR("key"))));
    bool exists = have.text.len > 0;
    bool in = exists && host_has(cleat_json_get(e, CLEAT_STR("values")), cleat_json_text(have));
    cleat_str operator_ = cleat_json_text(cleat_json_get(e, CLEAT_STR("operator")));
    if (cleat_str_equal(operator_, CLEAT_STR("In")))
        return in;
    if (cleat_str_equal(operator_, CLEAT_STR("NotIn")))
        return !in;
    return exists == cleat_str_equal(operator_, CLEAT_STR("Exists"));
}

bool host_selects(cleat_json selector, cleat_json labels) {
    cleat_str key;
    cleat_json v, have;
    cleat_json_items items = cleat_json_each(cleat_json_get(selector, CLEAT_STR("match_labels")));
    while (cleat_json_next_member(&items, &key, &v)) {
        have = cleat_json_get(labels, key);
        if (have.text.len == 0 || !cleat_str_equal(cleat_json_text(have), cleat_json_text(v)))
            return false;
    }
    items = cleat_json_each(cleat_json_get(selector, CLEAT_STR("match_expressions")));
    while (cleat_json_next(&items, &v)) {
        if (!expression_fits(v, labels))
            return false;
    }
    return true;
}

uint64_t host_match(const cleat_test_request *r) {
    cleat_json admission = cleat_json_get(host.manifest, CLEAT_STR("admission")), rule, labels = {0};
    if (r->namespace_labels != NULL)
        cleat_json_parse(cleat_str_of(r->namespace_labels), &labels);
    cleat_json_items rules = cleat_json_each(cleat_json_get(admission, CLEAT_STR("rules")));
    uint64_t mask = 0, bit = 1;
    for (; cleat_json_next(&rules, &rule); bit <<= 1) {
        if (has(rule, "operations", r->operation, "CREATE") && has(rule, "api_groups", r->group, "") &&
            has(rule, "api_versions", r->version, "v1") && has_resource(rule, r) &&
            host_selects(cleat_json_get(rule, CLEAT_STR("namespace_selector")), labels))
            mask |= bit;
    }
    return mask;
}
