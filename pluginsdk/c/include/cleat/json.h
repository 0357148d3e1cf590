// JSON: a reader that points into the text, and a writer.
#ifndef CLEAT_JSON_H
#define CLEAT_JSON_H

#include "abi.h"
#include "text.h"

// One JSON value: its text, without white space around it. {0} is absent, which every function
// takes for a value of the wrong type.
typedef struct cleat_json {
    cleat_str text;
} cleat_json;

typedef enum cleat_json_type {
    CLEAT_JSON_ABSENT,
    CLEAT_JSON_NULL,
    CLEAT_JSON_BOOL,
    CLEAT_JSON_NUMBER,
    CLEAT_JSON_STRING,
    CLEAT_JSON_ARRAY,
    CLEAT_JSON_OBJECT,
} cleat_json_type;

// Checks that text is one JSON value, at most CLEAT_MAX_JSON_DEPTH deep and UTF-8, and returns it.
// Otherwise it is false and the value absent.
bool cleat_json_parse(cleat_str text, cleat_json *value);

cleat_json_type cleat_json_type_of(cleat_json v);

// Returns a member of an object, absent when there is none.
cleat_json cleat_json_get(cleat_json object, cleat_str key);

// Returns the text of a string without escapes, empty for any other value. A surrogate without its
// other half becomes U+FFFD.
cleat_str cleat_json_text(cleat_json v);

// Reads an integer that fits; false for any other value.
bool cleat_json_int(cleat_json v, int64_t *n);

// Returns a boolean, or otherwise for any other value.
bool cleat_json_bool(cleat_json v, bool otherwise);

// Returns the strings of an array; elements that are none are empty. The result is NULL and count 0
// for any other value.
const cleat_str *cleat_json_strings(cleat_json v, uint32_t *count);

// What is left of an array or object.
typedef struct cleat_json_items {
    cleat_str rest;
    char close; // ']' or '}', 0 when nothing is left
} cleat_json_items;

// Returns the elements of an array, or members of an object; none for any other value.
cleat_json_items cleat_json_each(cleat_json v);

// Takes the next element of an array; false at the end.
bool cleat_json_next(cleat_json_items *items, cleat_json *value);

// Takes the next member of an object; false at the end.
bool cleat_json_next_member(cleat_json_items *items, cleat_str *key, cleat_json *value);

// Append to JSON text. Commas and colons come by themselves; what is opened must be closed.
//
//   cleat_json_open(&w, '{');
//   cleat_json_put_key(&w, CLEAT_STR("names"));
//   cleat_json_open(&w, '[');
//   cleat_json_put_text(&w, name);
//   cleat_json_close(&w, ']');
//   cleat_json_close(&w, '}');
void cleat_json_open(cleat_writer *w, char bracket);
void cleat_json_close(cleat_writer *w, char bracket);
void cleat_json_put_key(cleat_writer *w, cleat_str key);
void cleat_json_put_text(cleat_writer *w, cleat_str text); // bytes that are not UTF-8 become U+FFFD
void cleat_json_put_int(cleat_writer *w, int64_t n);
void cleat_json_put_bool(cleat_writer *w, bool b);
void cleat_json_put_null(cleat_writer *w);
void cleat_json_put(cleat_writer *w, cleat_json v); // as it is; null when absent

#endif
