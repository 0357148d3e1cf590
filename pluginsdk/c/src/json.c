// The JSON reader. It scans text without recursion and checks every byte it looks at, so that a
// cleat_json made of wrong text is no danger either: what is malformed is absent.
#include "internal.h"

#include <string.h>

static uint32_t skip_space(cleat_str t, uint32_t at) {
    while (at < t.len &&
           (t.ptr[at] == ' ' || t.ptr[at] == '\n' || t.ptr[at] == '\r' || t.ptr[at] == '\t'))
        at++;
    return at;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

// Reads the four digits at the start of t.
static bool hex4(cleat_str t, uint32_t *n) {
    if (t.len < 4)
        return false;
    *n = 0;
    for (uint32_t i = 0; i < 4; i++) {
        int digit = hex_digit(t.ptr[i]);
        if (digit < 0)
            return false;
        *n = *n << 4 | (uint32_t)digit;
    }
    return true;
}

// Reports whether eight bytes are ASCII that stands for itself in a string.
static bool plain8(uint64_t w) {
    uint64_t control = (w - CLEAT_ONES * 0x20) & ~w & CLEAT_HIGHS;
    return (control | (w & CLEAT_HIGHS)) == 0 && !cleat_has_byte(w, '"') && !cleat_has_byte(w, '\\');
}

// Each scan function returns where what begins at that place ends, CLEAT_NONE when it is malformed.

static uint32_t scan_string(cleat_str t, uint32_t at) {
    for (at++; at < t.len;) {
        if (t.len - at >= 8 && plain8(cleat_load8(t.ptr + at))) {
            at += 8;
            continue;
        }
        uint32_t n;
        uint8_t c = (uint8_t)t.ptr[at];
        if (c == '"')
            return at + 1;
        if (c == '\\') {
            if (++at == t.len)
                return CLEAT_NONE;
            if (t.ptr[at] == 'u') {
                if (!hex4(cleat_str_from(t, at + 1), &n))
                    return CLEAT_NONE;
                at += 5;
            } else if (t.ptr[at] != 0 && strchr("\"\\/bfnrt", t.ptr[at]) != NULL) {
                at++;
            } else {
                return CLEAT_NONE;
            }
        } else if (c < 0x20) {
            return CLEAT_NONE;
        } else {
            n = cleat_utf8_length(cleat_str_from(t, at));
            if (n == 0)
                return CLEAT_NONE;
            at += n;
        }
    }
    return CLEAT_NONE;
}

static uint32_t scan_digits(cleat_str t, uint32_t at) {
    uint32_t begin = at;
    while (at < t.len && t.ptr[at] >= '0' && t.ptr[at] <= '9')
        at++;
    return at > begin ? at : CLEAT_NONE;
}

static uint32_t scan_number(cleat_str t, uint32_t at) {
    if (t.ptr[at] == '-')
        at++;
    if (at < t.len && t.ptr[at] == '0')
        at++;
    else if ((at = scan_digits(t, at)) == CLEAT_NONE)
        return CLEAT_NONE;
    if (at < t.len && t.ptr[at] == '.' && (at = scan_digits(t, at + 1)) == CLEAT_NONE)
        return CLEAT_NONE;
    if (at < t.len && (t.ptr[at] == 'e' || t.ptr[at] == 'E')) {
        at++;
        if (at < t.len && (t.ptr[at] == '+' || t.ptr[at] == '-'))
            at++;
        return scan_digits(t, at);
    }
    return at;
}

static uint32_t scan_word(cleat_str t, uint32_t at, cleat_str word) {
    return cleat_str_has_prefix(cleat_str_from(t, at), word) ? at + word.len : CLEAT_NONE;
}

// Scans a value that is neither array nor object.
static uint32_t scan_scalar(cleat_str t, uint32_t at) {
    switch (t.ptr[at]) {
    case '"':
        return scan_string(t, at);
    case 'n':
        return scan_word(t, at, CLEAT_STR("null"));
    case 't':
        return scan_word(t, at, CLEAT_STR("true"));
    case 'f':
        return scan_word(t, at, CLEAT_STR("false"));
    default:
        return scan_number(t, at);
    }
}

// Scans a key with its colon, and the space on both sides.
static uint32_t scan_key(cleat_str t, uint32_t at) {
    at = skip_space(t, at);
    if (at >= t.len || t.ptr[at] != '"' || (at = scan_string(t, at)) == CLEAT_NONE)
        return CLEAT_NONE;
    at = skip_space(t, at);
    return at < t.len && t.ptr[at] == ':' ? skip_space(t, at + 1) : CLEAT_NONE;
}

// Scans the value that begins after white space.
static uint32_t scan_value(cleat_str t, uint32_t at) {
    uint64_t objects = 0; // bit n: what is open at depth n is an object
    uint32_t depth = 0;
    _Static_assert(CLEAT_MAX_JSON_DEPTH <= 64, "one bit for each level");
    for (;;) {
        at = skip_space(t, at);
        if (at >= t.len)
            return CLEAT_NONE;
        char c = t.ptr[at];
        if (c == '{' || c == '[') {
            if (depth == CLEAT_MAX_JSON_DEPTH)
                return CLEAT_NONE;
            uint64_t bit = UINT64_C(1) << depth++;
            objects = c == '{' ? objects | bit : objects & ~bit;
            uint32_t inside = skip_space(t, at + 1);
            if (inside >= t.len || t.ptr[inside] != (c == '{' ? '}' : ']')) {
                at = c == '{' ? scan_key(t, at + 1) : at + 1;
                if (at == CLEAT_NONE)
                    return CLEAT_NONE;
                continue;
            }
            at = inside + 1;
            depth--;
        } else if ((at = scan_scalar(t, at)) == CLEAT_NONE) {
            return CLEAT_NONE;
        }
        // Behind a value: close what ends here, or go on to the next value.
        for (;;) {
            if (depth == 0)
                return at;
            bool object = (objects >> (depth - 1) & 1) == 1;
            at = skip_space(t, at);
            if (at >= t.len)
                return CLEAT_NONE;
            c = t.ptr[at++];
            if (c == (object ? '}' : ']')) {
                depth--;
                continue;
            }
            if (c != ',')
                return CLEAT_NONE;
            if (object && (at = scan_key(t, at)) == CLEAT_NONE)
                return CLEAT_NONE;
            break;
        }
    }
}

// Takes the value at the start of rest.
static bool take(cleat_str *rest, cleat_json *value) {
    uint32_t begin = skip_space(*rest, 0);
    uint32_t end = scan_value(*rest, begin);
    if (end == CLEAT_NONE)
        return false;
    value->text = cleat_str_from(cleat_str_to(*rest, end), begin);
    *rest = cleat_str_from(*rest, end);
    return true;
}

bool cleat_json_parse(cleat_str text, cleat_json *value) {
    cleat_json v = {0};
    *value = v;
    if (!take(&text, &v) || skip_space(text, 0) < text.len)
        return false;
    *value = v;
    return true;
}

cleat_json_type cleat_json_type_of(cleat_json v) {
    if (v.text.len == 0)
        return CLEAT_JSON_ABSENT;
    switch (v.text.ptr[0]) {
    case 'n':
        return CLEAT_JSON_NULL;
    case 't':
    case 'f':
        return CLEAT_JSON_BOOL;
    case '"':
        return CLEAT_JSON_STRING;
    case '[':
        return CLEAT_JSON_ARRAY;
    case '{':
        return CLEAT_JSON_OBJECT;
    default:
        return CLEAT_JSON_NUMBER;
    }
}

// Writes a code point as UTF-8.
static uint32_t encode_utf8(uint32_t c, char *p) {
    if (c < 0x80) {
        p[0] = (char)c;
        return 1;
    }
    uint32_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (uint32_t i = n - 1; i > 0; i--) {
        p[i] = (char)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    p[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c);
    return n;
}

#define REPLACEMENT 0xfffdu

// Takes what follows \u at the start of t, with the other half of a surrogate pair.
static uint32_t take_code_point(cleat_str *t) {
    uint32_t c, low;
    if (!hex4(*t, &c)) {
        *t = (cleat_str){"", 0};
        return '?'; // of wrong text; there may be room for one byte only
    }
    *t = cleat_str_from(*t, 4);
    if (c < 0xd800 || c > 0xdfff)
        return c;
    if (c > 0xdbff || !cleat_str_has_prefix(*t, CLEAT_STR("\\u")) ||
        !hex4(cleat_str_from(*t, 2), &low) || low < 0xdc00 || low > 0xdfff)
        return REPLACEMENT;
    *t = cleat_str_from(*t, 6);
    return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

// Decodes what stands between the quotes. An escape is never shorter than what it stands for.
static cleat_str decode(cleat_str t) {
    uint32_t plain = cleat_str_find(t, '\\');
    if (plain == CLEAT_NONE)
        return t;
    char *text = cleat_alloc(t.len);
    uint32_t len = 0;
    for (;;) {
        uint32_t n = plain == CLEAT_NONE ? t.len : plain;
        memcpy(text + len, t.ptr, n);
        len += n;
        t = cleat_str_from(t, n);
        if (t.len < 2)
            return (cleat_str){text, len};
        char c = t.ptr[1];
        t = cleat_str_from(t, 2);
        if (c == 'u') {
            len += encode_utf8(take_code_point(&t), text + len);
        } else {
            static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
            const char *escape = c == 0 ? NULL : strchr(from, c);
            text[len++] = escape != NULL ? to[escape - from] : c;
        }
        plain = cleat_str_find(t, '\\');
    }
}

// Returns what stands between the quotes of a string.
static cleat_str inside(cleat_str string) {
    return string.len < 2 ? (cleat_str){"", 0} : cleat_str_from(cleat_str_to(string, string.len - 1), 1);
}

cleat_str cleat_json_text(cleat_json v) {
    if (cleat_json_type_of(v) != CLEAT_JSON_STRING)
        return (cleat_str){"", 0};
    return decode(inside(v.text));
}

bool cleat_json_int(cleat_json v, int64_t *n) {
    cleat_str t = v.text;
    bool negative = t.len > 0 && t.ptr[0] == '-';
    uint64_t most = (uint64_t)INT64_MAX + (negative ? 1 : 0), sum = 0;
    uint32_t i = negative ? 1 : 0;
    if (i == t.len)
        return false;
    for (; i < t.len; i++) {
        if (t.ptr[i] < '0' || t.ptr[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(t.ptr[i] - '0');
        if (sum > (most - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    if (negative)
        *n = sum == 0 ? 0 : -(int64_t)(sum - 1) - 1;
    else
        *n = (int64_t)sum;
    return true;
}

bool cleat_json_bool(cleat_json v, bool otherwise) {
    return cleat_json_type_of(v) == CLEAT_JSON_BOOL ? v.text.ptr[0] == 't' : otherwise;
}

cleat_json_items cleat_json_each(cleat_json v) {
    cleat_json_type type = cleat_json_type_of(v);
    if (type != CLEAT_JSON_ARRAY && type != CLEAT_JSON_OBJECT)
        return (cleat_json_items){0};
    cleat_json_items items = {cleat_str_from(v.text, 1), type == CLEAT_JSON_ARRAY ? ']' : '}'};
    uint32_t at = skip_space(items.rest, 0);
    if (at < items.rest.len && items.rest.ptr[at] == items.close)
        items.close = 0;
    return items;
}

// Takes a value and what separates it from the next one.
static bool take_item(cleat_json_items *items, cleat_json *value) {
    char close = items->close;
    items->close = 0;
    if (!take(&items->rest, value))
        return false;
    uint32_t at = skip_space(items->rest, 0);
    if (at < items->rest.len && items->rest.ptr[at] == ',') {
        items->rest = cleat_str_from(items->rest, at + 1);
        items->close = close;
    }
    return true;
}

bool cleat_json_next(cleat_json_items *items, cleat_json *value) {
    *value = (cleat_json){0};
    return items->close == ']' && take_item(items, value);
}

// Takes the next member; key is what stands between its quotes.
static bool next_member(cleat_json_items *items, cleat_str *key, cleat_json *value) {
    *key = (cleat_str){"", 0};
    *value = (cleat_json){0};
    if (items->close != '}')
        return false;
    uint32_t begin = skip_space(items->rest, 0), after = scan_key(items->rest, begin);
    if (after == CLEAT_NONE) {
        items->close = 0;
        return false;
    }
    uint32_t end = scan_string(items->rest, begin);
    *key = inside(cleat_str_from(cleat_str_to(items->rest, end), begin));
    items->rest = cleat_str_from(items->rest, after);
    return take_item(items, value);
}

bool cleat_json_next_member(cleat_json_items *items, cleat_str *key, cleat_json *value) {
    bool more = next_member(items, key, value);
    *key = decode(*key);
    return more;
}

cleat_json cleat_json_get(cleat_json object, cleat_str key) {
    cleat_json_items items = cleat_json_each(object);
    cleat_json value;
    cleat_str have;
    while (next_member(&items, &have, &value)) {
        if (cleat_str_equal(decode(have), key))
            return value;
    }
    return (cleat_json){0};
}

const cleat_str *cleat_json_strings(cleat_json v, uint32_t *count) {
    cleat_json_items items = cleat_json_each(v);
    cleat_json item;
    uint32_t n = 0;
    *count = 0;
    while (cleat_json_next(&items, &item))
        n++;
    if (cleat_json_type_of(v) != CLEAT_JSON_ARRAY)
        return NULL;
    uint64_t size = (uint64_t)n * sizeof(cleat_str);
    cleat_str *texts = cleat_alloc(size > UINT32_MAX ? UINT32_MAX : (uint32_t)size);
    items = cleat_json_each(v);
    while (*count < n && cleat_json_next(&items, &item))
        texts[(*count)++] = cleat_json_text(item);
    return texts;
}
