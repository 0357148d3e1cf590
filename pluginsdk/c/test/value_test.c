// Encoded values and text.
#include "check.h"

static void values(void) {
    cleat_writer w = {0};
    cleat_value_put_list(&w, 7);
    cleat_value_put_null(&w);
    cleat_value_put_bool(&w, true);
    cleat_value_put_bool(&w, false);
    cleat_value_put_int(&w, INT64_MIN);
    cleat_value_put_float(&w, -0.5);
    cleat_value_put_string(&w, CLEAT_STR("text"));
    cleat_value_put_list(&w, 1);
    cleat_value_put_json(&w, CLEAT_STR("{}"));
    cleat_put(&w, CLEAT_STR("rest"));
    cleat_str data = exact(cleat_written(&w)), rest;
    cleat_value v, e;
    int64_t n;
    double f;
    CHECK(cleat_value_parse(data, &v, &rest));
    CHECK_TEXT(rest, "rest");
    CHECK(v.tag == CLEAT_TAG_LIST && !cleat_value_is_null(v));
    cleat_list list = cleat_value_list(v);
    CHECK(list.count == 7);
    CHECK(cleat_list_next(&list, &e) && cleat_value_is_null(e));
    CHECK(cleat_list_next(&list, &e) && cleat_value_is_true(e));
    CHECK(!cleat_value_int(e, &n) && !cleat_value_float(e, &f) && cleat_value_text(e).len == 0);
    CHECK(cleat_list_next(&list, &e) && !cleat_value_is_true(e) && !cleat_value_is_null(e));
    CHECK(cleat_list_next(&list, &e) && cleat_value_int(e, &n) && n == INT64_MIN);
    CHECK(cleat_list_next(&list, &e) && cleat_value_float(e, &f) && f == -0.5);
    CHECK(cleat_list_next(&list, &e));
    CHECK_TEXT(cleat_value_text(e), "text");
    CHECK(cleat_value_json(e).len == 0 && cleat_value_list(e).count == 0);
    CHECK(cleat_list_next(&list, &e));
    cleat_list inner = cleat_value_list(e);
    CHECK(cleat_list_next(&inner, &e));
    CHECK_TEXT(cleat_value_json(e), "{}");
    CHECK(!cleat_list_next(&inner, &e) && !cleat_list_next(&list, &e) && cleat_value_is_null(e));
    exact_free(data);
}

static void refused(const char *bytes, uint32_t len) {
    cleat_value v;
    cleat_str rest, data = exact((cleat_str){bytes, len});
    CHECK(!cleat_value_parse(data, &v, &rest));
    CHECK(cleat_value_is_null(v) && rest.len == 0);
    exact_free(data);
}

static bool nested(uint32_t depth) {
    cleat_writer w = {0};
    for (uint32_t i = 0; i < depth; i++)
        cleat_value_put_list(&w, 1);
    cleat_value_put_null(&w);
    cleat_value v;
    cleat_str rest;
    if (!cleat_value_parse(cleat_written(&w), &v, &rest))
        return false;
    // Each list opens into the next.
    for (uint32_t i = 0; i < depth; i++) {
        cleat_list list = cleat_value_list(v);
        CHECK(cleat_list_next(&list, &v));
    }
    return cleat_value_is_null(v);
}

static void malformed(void) {
    refused("", 0);
    refused("\x08", 1);
    refused("\x03\0\0\0\0\0\0\0", 8);
    refused("\x05\0\0\0", 4);
    refused("\x05\x02\0\0\0a", 6);
    refused("\x07\xff\xff\xff\xff{}", 7);
    refused("\x06\xff\xff\xff\xff", 5);
    refused("\x06\x02\0\0\0\0", 6);
    refused("\x06\x02\0\0\0\0\x09", 7);
    CHECK(nested(CLEAT_MAX_LIST_DEPTH));
    CHECK(!nested(CLEAT_MAX_LIST_DEPTH + 1));
}

static void read_all(cleat_value v, int depth) {
    cleat_value e;
    cleat_json json;
    cleat_str text = exact(cleat_value_text(v)); // reads all of it
    exact_free(text);
    cleat_json_parse(cleat_value_json(v), &json);
    for (cleat_list list = cleat_value_list(v); depth > 0 && cleat_list_next(&list, &e);)
        read_all(e, depth - 1);
}

static void survives(void) {
    cleat_writer w = {0};
    cleat_value_put_list(&w, 4);
    cleat_value_put_string(&w, CLEAT_STR("some text"));
    cleat_value_put_list(&w, 2);
    cleat_value_put_int(&w, 1);
    cleat_value_put_json(&w, CLEAT_STR("{\"a\":1}"));
    cleat_value_put_float(&w, 1);
    cleat_value_put_null(&w);
    cleat_str seed = exact(cleat_written(&w));
    uint64_t state = 1;
    for (int i = 0; i < 100000; i++) {
        cleat_value v;
        cleat_str rest, data = spoil(seed, &state);
        if (cleat_value_parse(data, &v, &rest))
            CHECK(rest.len < data.len);
        read_all(v, 17);
        // A list that was made up instead of parsed.
        read_all((cleat_value){CLEAT_TAG_LIST, UINT32_MAX, 0, data}, 17);
        exact_free(data);
    }
    exact_free(seed);
}

static void texts(void) {
    cleat_str text = exact(CLEAT_STR("registry.test/some/image:1.0"));
    CHECK(cleat_str_find(text, '/') == 13 && cleat_str_find_last(text, '/') == 18);
    CHECK(cleat_str_find(text, '0') == 27 && cleat_str_find_last(text, 'r') == 6);
    CHECK(cleat_str_find(text, '@') == CLEAT_NONE && cleat_str_find_last(text, '@') == CLEAT_NONE);
    CHECK(cleat_str_find((cleat_str){0}, 'a') == CLEAT_NONE);
    CHECK(cleat_str_has_prefix(text, CLEAT_STR("registry.test/")) && !cleat_str_has_prefix(text, CLEAT_STR("x")));
    CHECK(cleat_str_has_suffix(text, CLEAT_STR(":1.0")) && !cleat_str_has_suffix(CLEAT_STR("0"), text));
    CHECK(cleat_str_equal(text, text) && !cleat_str_equal(text, cleat_str_to(text, 27)));
    CHECK(!cleat_str_equal(CLEAT_STR("12345678a"), CLEAT_STR("12345678b")));
    CHECK(!cleat_str_equal(CLEAT_STR("a2345678"), CLEAT_STR("b2345678")));
    CHECK(cleat_str_equal((cleat_str){0}, CLEAT_STR("")));
    CHECK_TEXT(cleat_str_from(text, 24), ":1.0");
    CHECK_TEXT(cleat_str_from(text, 99), "");
    CHECK_TEXT(cleat_str_to(text, 99), "registry.test/some/image:1.0");
    exact_free(text);
    CHECK_TEXT(cleat_decimal(0), "0");
    CHECK_TEXT(cleat_decimal(INT64_MAX), "9223372036854775807");
    CHECK_TEXT(cleat_decimal(INT64_MIN), "-9223372036854775808");
    CHECK_TEXT(cleat_concat(CLEAT_STR("a"), cleat_decimal(1), (cleat_str){0}, CLEAT_STR("b")), "a1b");
    const cleat_str parts[] = {CLEAT_STR("a"), CLEAT_STR("b")};
    CHECK_TEXT(cleat_join(parts, 2, CLEAT_STR(", ")), "a, b");
    CHECK_TEXT(cleat_join(parts, 0, CLEAT_STR(", ")), "");
    CHECK_TEXT(cleat_str_of(cleat_errno_text(CLEAT_E2BIG)), "over a limit (E2BIG)");
    CHECK_TEXT(cleat_str_of(cleat_errno_text(1)),
               "unknown error number");
}

static void buffers(void) {
    cleat_buffer b = cleat_buffer_for(4);
    CHECK(b.limit >= 4 && !cleat_buffer_again(&b, 3) && cleat_buffer_text(&b).len == 3);
    b = cleat_buffer_for(4);
    int32_t more = (int32_t)b.limit + 1;
    CHECK(cleat_buffer_again(&b, more) && b.limit >= (uint32_t)more);
    memset(b.ptr, 1, b.limit);
    CHECK(!cleat_buffer_again(&b, more) && b.result == more);
    // A host that never has enough.
    b = cleat_buffer_for(4);
    int rounds = 0;
    while (cleat_buffer_again(&b, (int32_t)b.limit + 1))
        rounds++;
    CHECK(rounds == 2 && b.result == CLEAT_EIO && cleat_buffer_text(&b).len == 0);
    b = cleat_buffer_for(4);
    CHECK(!cleat_buffer_again(&b, CLEAT_EACCES) && b.result == CLEAT_EACCES);
}

int main(void) {
    values();
    malformed();
    survives();
    texts();
    buffers();
    return cleat_test_done();
}
