// The JSON writer.
#include "internal.h"

// Puts the comma before a value or key, where one belongs.
static void separate(cleat_writer *w) {
    if (w->len == 0)
        return;
    char last = w->ptr[w->len - 1];
    if (last != '{' && last != '[' && last != ':')
        cleat_put_byte(w, ',');
}

void cleat_json_open(cleat_writer *w, char bracket) {
    separate(w);
    cleat_put_byte(w, bracket);
}

void cleat_json_close(cleat_writer *w, char bracket) { cleat_put_byte(w, bracket); }

static void put_escape(cleat_writer *w, char c) {
    static const char hex[] = "0123456789abcdef";
    char text[6] = {'\\', 'u', '0', '0', hex[(uint8_t)c >> 4], hex[c & 15]};
    switch (c) {
    case '"':
    case '\\':
        text[1] = c;
        break;
    case '\n':
        text[1] = 'n';
        break;
    case '\r':
        text[1] = 'r';
        break;
    case '\t':
        text[1] = 't';
        break;
    default:
        cleat_put(w, (cleat_str){text, 6});
        return;
    }
    cleat_put(w, (cleat_str){text, 2});
}

static void put_string(cleat_writer *w, cleat_str text) {
    cleat_put_byte(w, '"');
    uint32_t done = 0, at = 0; // what lies between is written as it is
    while (at < text.len) {
        char c = text.ptr[at];
        uint32_t n = cleat_utf8_length(cleat_str_from(text, at));
        if (n > 0 && (uint8_t)c >= 0x20 && c != '"' && c != '\\') {
            at += n;
            continue;
        }
        cleat_put(w, cleat_str_from(cleat_str_to(text, at), done));
        if (n == 0)
            cleat_put(w, CLEAT_STR("\xef\xbf\xbd"));
        else
            put_escape(w, c);
        done = ++at;
    }
    cleat_put(w, cleat_str_from(text, done));
    cleat_put_byte(w, '"');
}

void cleat_json_put_key(cleat_writer *w, cleat_str key) {
    separate(w);
    put_string(w, key);
    cleat_put_byte(w, ':');
}

void cleat_json_put_text(cleat_writer *w, cleat_str text) {
    separate(w);
    put_string(w, text);
}

static void put_word(cleat_writer *w, cleat_str word) {
    separate(w);
    cleat_put(w, word);
}

void cleat_json_put_int(cleat_writer *w, int64_t n) { put_word(w, cleat_decimal(n)); }

void cleat_json_put_bool(cleat_writer *w, bool b) {
    put_word(w, b ? CLEAT_STR("true") : CLEAT_STR("false"));
}

void cleat_json_put_null(cleat_writer *w) { put_word(w, CLEAT_STR("null")); }

void cleat_json_put(cleat_writer *w, cleat_json v) {
    put_word(w, v.text.len > 0 ? v.text : CLEAT_STR("null"));
}
