// Encoded values, as object_get returns them and object_set takes them.
#ifndef CLEAT_VALUE_H
#define CLEAT_VALUE_H

#include "abi.h"
#include "text.h"

// One decoded value. It points into the bytes it was read from; {0} is null.
typedef struct cleat_value {
    uint8_t tag;    // CLEAT_TAG_NULL and so on
    uint32_t count; // of a list
    uint64_t bits;  // of an integer or number
    cleat_str data; // text of a string or JSON, elements of a list
} cleat_value;

// Reads the value at the start of data, and what follows it. It is false, and null, when data does
// not start with a complete, well-formed value.
bool cleat_value_parse(cleat_str data, cleat_value *value, cleat_str *rest);

// Reports whether a value is null or absent.
static inline bool cleat_value_is_null(cleat_value v) { return v.tag == CLEAT_TAG_NULL; }

// Reports whether a value is the boolean true.
static inline bool cleat_value_is_true(cleat_value v) { return v.tag == CLEAT_TAG_TRUE; }

// Returns the text of a string, empty for any other value.
cleat_str cleat_value_text(cleat_value v);

// Returns the JSON text of an object, empty for any other value. cleat_json_parse reads it.
cleat_str cleat_value_json(cleat_value v);

// Reads an integer; false for any other value.
bool cleat_value_int(cleat_value v, int64_t *n);

// Reads a number that is no integer; false for any other value.
bool cleat_value_float(cleat_value v, double *n);

// The elements of a list that are left.
typedef struct cleat_list {
    uint32_t count;
    cleat_str rest;
} cleat_list;

// Returns the elements of a list, none for any other value.
cleat_list cleat_value_list(cleat_value v);

// Takes the next element; false at the end.
bool cleat_list_next(cleat_list *list, cleat_value *value);

// Append one encoded value. After a list's head, count values must follow.
void cleat_value_put_null(cleat_writer *w);
void cleat_value_put_bool(cleat_writer *w, bool b);
void cleat_value_put_int(cleat_writer *w, int64_t n);
void cleat_value_put_float(cleat_writer *w, double n);
void cleat_value_put_string(cleat_writer *w, cleat_str text);
void cleat_value_put_json(cleat_writer *w, cleat_str text);
void cleat_value_put_list(cleat_writer *w, uint32_t count);

#endif
