// The JSON reader and writer.
#include "check.h"

static cleat_json parsed(const char *text) {
    cleat_json v;
    CHECK(cleat_json_parse(cleat_str_of(text), &v));
    return v;
}

static void reads(void) {
    cleat_json v = parsed(" { \"a\" : [1, -2,3.5] , \"b\\n\":{\"c\":\"d\"},\"t\":true,\"n\":null,\"a\":0} ");
    CHECK(cleat_json_type_of(v) == CLEAT_JSON_OBJECT);
    CHECK(cleat_json_type_of(cleat_json_get(v, CLEAT_STR("a"))) == CLEAT_JSON_ARRAY);
    CHECK_TEXT(cleat_json_text(cleat_json_get(cleat_json_get(v, CLEAT_STR("b\n")), CLEAT_STR("c"))), "d");
    CHECK(cleat_json_bool(cleat_json_get(v, CLEAT_STR("t")), false));
    CHECK(cleat_json_bool(cleat_json_get(v, CLEAT_STR("n")), true));
    CHECK(cleat_json_type_of(cleat_json_get(v, CLEAT_STR("n"))) == CLEAT_JSON_NULL);
    CHECK(cleat_json_type_of(cleat_json_get(v, CLEAT_STR("none"))) == CLEAT_JSON_ABSENT);
    CHECK(cleat_json_type_of(cleat_json_get((cleat_json){0}, CLEAT_STR("a"))) == CLEAT_JSON_ABSENT);

    cleat_json item;
    cleat_str key;
    cleat_json_items items = cleat_json_each(cleat_json_get(v, CLEAT_STR("a")));
    CHECK(cleat_json_next(&items, &item));
    CHECK_TEXT(item.text, "1");
    CHECK(!cleat_json_next_member(&items, &key, &item));
    CHECK(cleat_json_next(&items, &item));
    CHECK_TEXT(item.text, "-2");
    CHECK(cleat_json_next(&items, &item));
    CHECK_TEXT(item.text, "3.5");
    CHECK(!cleat_json_next(&items, &item));
    CHECK(!cleat_json_next(&items, &item));

    items = cleat_json_each(v);
    CHECK(!cleat_json_next(&items, &item));
    CHECK(cleat_json_next_member(&items, &key, &item));
    CHECK_TEXT(key, "a");
    CHECK(cleat_json_next_member(&items, &key, &item));
    CHECK_TEXT(key, "b\n");
    CHECK_TEXT(item.text, "{\"c\":\"d\"}");

    uint32_t count;
    const cleat_str *texts = cleat_json_strings(parsed("[\"a\",1,\"\\u0062\"]"), &count);
    CHECK(count == 3);
    CHECK_TEXT(texts[0], "a");
    CHECK_TEXT(texts[1], "");
    CHECK_TEXT(texts[2], "b");
    CHECK(cleat_json_strings(parsed("{}"), &count) == NULL && count == 0);
    CHECK(cleat_json_strings(parsed("[ ]"), &count) != NULL && count == 0);
}

static void numbers(void) {
    int64_t n = 7;
    CHECK(cleat_json_int(parsed("9223372036854775807"), &n) && n == INT64_MAX);
    CHECK(cleat_json_int(parsed("-9223372036854775808"), &n) && n == INT64_MIN);
    CHECK(cleat_json_int(parsed("-0"), &n) && n == 0);
    CHECK(!cleat_json_int(parsed("9223372036854775808"), &n));
    CHECK(!cleat_json_int(parsed("-9223372036854775809"), &n));
    CHECK(!cleat_json_int(parsed("99999999999999999999999999"), &n));
    CHECK(!cleat_json_int(parsed("1.0"), &n));
    CHECK(!cleat_json_int(parsed("1e3"), &n));
    CHECK(!cleat_json_int(parsed("\"1\""), &n));
    CHECK(!cleat_json_int((cleat_json){0}, &n));
}

static void strings(void) {
    CHECK_TEXT(cleat_json_text(parsed("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")), "\"\\/\b\f\n\r\t");
    CHECK_TEXT(cleat_json_text(parsed("\"\\u00e9\\u20AC\\ud83d\\ude00x\"")), "é€😀x");
    CHECK_TEXT(cleat_json_text(parsed("\"\\ud83d\"")), "\xef\xbf\xbd");
    CHECK_TEXT(cleat_json_text(parsed("\"\\ude00\\ud83d\\u0041\"")), "\xef\xbf\xbd\xef\xbf\xbd" "A");
    CHECK_TEXT(cleat_json_text(parsed("\"a longer text, no escape\"")), "a longer text, no escape");
    CHECK(cleat_json_text(parsed("\"\\u0000\"")).len == 1);
    // Wrong text that never went through cleat_json_parse.
    static const char *const wrong[] = {"\"\\u\"", "\"\\", "\"", "\"\\\"", "\"\\u12\"", "\"\\ud800\\u1\""};
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cleat_str text = exact(cleat_str_of(wrong[i]));
        cleat_json_text((cleat_json){text});
        exact_free(text);
    }
}

static void refuses(void) {
    static const char *const wrong[] = {
        "", " ", "{", "[", "]", "}", "[1,]", "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}",
        "{a:1}", "{1:2}", "[1}", "{\"a\":1]", "nul", "nulll", "truefalse", "1 2", "01", "-", "+1", ".5", "1.",
        "1e", "1e+", "\"", "\"a", "\"\\\"", "\"\\x\"", "\"\\u12g4\"", "\"\\u123\"", "\"\x01\"",
        "\"a long text with a \x1f control character\"", "\"\x80\"", "\"\xc3\"", "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"", "\"\xf5\x80\x80\x80\"", "\"\xf0\x80\x80\x80\"", "'a'", "[1]x", "//", "\xef\xbb\xbf[]",
    };
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cleat_json v;
        cleat_str text = exact(cleat_str_of(wrong[i]));
        CLEAT_EXPECT(cleat_json_parse(text, &v) ? wrong[i] : "refused", "refused");
        CHECK(v.text.len == 0);
        exact_free(text);
    }
    char deep[2 * CLEAT_MAX_JSON_DEPTH + 2];
    cleat_json v;
    memset(deep, '[', CLEAT_MAX_JSON_DEPTH);
    memset(deep + CLEAT_MAX_JSON_DEPTH, ']', CLEAT_MAX_JSON_DEPTH);
    CHECK(cleat_json_parse((cleat_str){deep, 2 * CLEAT_MAX_JSON_DEPTH}, &v));
    memset(deep, '[', CLEAT_MAX_JSON_DEPTH + 1);
    memset(deep + CLEAT_MAX_JSON_DEPTH + 1, ']', CLEAT_MAX_JSON_DEPTH + 1);
    CHECK(!cleat_json_parse((cleat_str){deep, sizeof deep}, &v));
}

// Reads everything there is to read, whether the text was parsed or not.
static void read_all(cleat_json v, int depth) {
    cleat_json item;
    cleat_str key;
    int64_t n;
    uint32_t count;
    cleat_json_text(v);
    cleat_json_int(v, &n);
    cleat_json_strings(v, &count);
    cleat_json_get(v, CLEAT_STR("key"));
    cleat_json_items items = cleat_json_each(v);
    while (depth > 0 && (cleat_json_next(&items, &item) || cleat_json_next_member(&items, &key, &item)))
        read_all(item, depth - 1);
}

static void survives(void) {
    cleat_str seed = CLEAT_STR("{\"key\":[\"a text of some length\",\"\\ud83d\\ude00 é\",-1.5e3,[[]],{}],"
                               "\"k\\u0065y\":{\"a\":null,\"b\":[true,false]},\"n\":123456789}");
    uint64_t state = 1;
    for (int i = 0; i < 50000; i++) {
        cleat_str text = spoil(seed, &state);
        cleat_json v;
        cleat_json_parse(text, &v);
        read_all(v, 6);
        read_all((cleat_json){text}, 6);
        exact_free(text);
        if (i % 100 == 0)
            cleat_run_start(NULL); // frees what was allocated
    }
}

static void writes(void) {
    cleat_writer w = {0};
    cleat_json_open(&w, '{');
    cleat_json_put_key(&w, CLEAT_STR("a\""));
    cleat_json_open(&w, '[');
    cleat_json_put_int(&w, INT64_MIN);
    cleat_json_put_bool(&w, true);
    cleat_json_put_null(&w);
    cleat_json_open(&w, '[');
    cleat_json_close(&w, ']');
    cleat_json_open(&w, '{');
    cleat_json_close(&w, '}');
    cleat_json_close(&w, ']');
    cleat_json_put_key(&w, CLEAT_STR("b"));
    cleat_json_put_text(&w, CLEAT_STR("\"\\/\n\r\t\x01é{\xff\xc3"));
    cleat_json_put_key(&w, CLEAT_STR(""));
    cleat_json_put(&w, parsed(" [1,2] "));
    cleat_json_put_key(&w, CLEAT_STR("absent"));
    cleat_json_put(&w, (cleat_json){0});
    cleat_json_close(&w, '}');
    CHECK_TEXT(cleat_written(&w),
               "{\"a\\\"\":[-9223372036854775808,true,null,[],{}],"
               "\"b\":\"\\\"\\\\/\\n\\r\\t\\u0001é{\xef\xbf\xbd\xef\xbf\xbd\",\"\":[1,2],\"absent\":null}");
    cleat_json v;
    CHECK(cleat_json_parse(cleat_written(&w), &v));

    // What is written reads back, whatever it is.
    uint64_t state = 2;
    for (int i = 0; i < 2000; i++) {
        char bytes[16];
        uint32_t n = next_random(&state) % 16;
        for (uint32_t at = 0; at < n; at++)
            bytes[at] = (char)next_random(&state);
        cleat_writer one = {0};
        cleat_json_put_text(&one, (cleat_str){bytes, n});
        CHECK(cleat_json_parse(cleat_written(&one), &v));
        if (cleat_str_find(cleat_json_text(v), '\xbd') == CLEAT_NONE)
            CHECK(cleat_str_equal(cleat_json_text(v), (cleat_str){bytes, n}));
    }
}

int main(void) {
    reads();
    numbers();
    strings();
    refuses();
    survives();
    writes();
    return cleat_test_done();
}
