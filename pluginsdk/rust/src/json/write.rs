use std::collections::BTreeMap;

use super::{Json, Text};

/// What can be written as JSON.
pub trait ToJson {
    /// Appends the text of the value.
    fn write(&self, out: &mut String);
}

/// Writes an object:
///
/// ```
/// let text = cleat::json::object(|o| {
///     o.put("kind", "Pod");
///     o.array("names", |a| ["a", "b"].iter().for_each(|name| a.put(name)));
/// });
/// assert_eq!(text.to_string(), r#"{"kind":"Pod","names":["a","b"]}"#);
/// ```
pub fn object(build: impl FnOnce(&mut Object)) -> Text {
    let mut out = String::new();
    write_object(&mut out, build);
    Text(out)
}

/// Writes an array, see [`object`].
pub fn array(build: impl FnOnce(&mut Array)) -> Text {
    let mut out = String::new();
    write_array(&mut out, build);
    Text(out)
}

pub(crate) fn write_object(out: &mut String, build: impl FnOnce(&mut Object)) {
    out.push('{');
    build(&mut Object { out, empty: true });
    out.push('}');
}

fn write_array(out: &mut String, build: impl FnOnce(&mut Array)) {
    out.push('[');
    build(&mut Array { out, empty: true });
    out.push(']');
}

/// An object that is being written. A key must not be put twice.
pub struct Object<'a> {
    out: &'a mut String,
    empty: bool,
}

impl Object<'_> {
    /// Adds a member.
    pub fn put(&mut self, key: &str, value: impl ToJson) {
        self.key(key);
        value.write(self.out);
    }

    /// Adds an object.
    pub fn object(&mut self, key: &str, build: impl FnOnce(&mut Object)) {
        self.key(key);
        write_object(self.out, build);
    }

    /// Adds an array.
    pub fn array(&mut self, key: &str, build: impl FnOnce(&mut Array)) {
        self.key(key);
        write_array(self.out, build);
    }

    fn key(&mut self, key: &str) {
        comma(self.out, &mut self.empty);
        key.write(self.out);
        self.out.push(':');
    }
}

/// An array that is being written.
pub struct Array<'a> {
    out: &'a mut String,
    empty: bool,
}

impl Array<'_> {
    /// Adds an element.
    pub fn put(&mut self, value: impl ToJson) {
        comma(self.out, &mut self.empty);
        value.write(self.out);
    }

    /// Adds an object.
    pub fn object(&mut self, build: impl FnOnce(&mut Object)) {
        comma(self.out, &mut self.empty);
        write_object(self.out, build);
    }

    /// Adds an array.
    pub fn array(&mut self, build: impl FnOnce(&mut Array)) {
        comma(self.out, &mut self.empty);
        write_array(self.out, build);
    }
}

fn comma(out: &mut String, empty: &mut bool) {
    if !*empty {
        out.push(',');
    }
    *empty = false;
}

impl ToJson for str {
    fn write(&self, out: &mut String) {
        out.push('"');
        let mut done = 0;
        for (at, b) in self.bytes().enumerate() {
            let escape = match b {
                b'"' | b'\\' => b,
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0..=0x1f => b'u',
                _ => continue,
            };
            out.push_str(self.get(done..at).unwrap_or_default());
            done = at + 1;
            out.push('\\');
            out.push(escape as char);
            if escape == b'u' {
                out.push_str(if b < 0x10 { "000" } else { "001" });
                out.push(char::from_digit(u32::from(b & 0xf), 16).unwrap_or('0'));
            }
        }
        out.push_str(self.get(done..).unwrap_or_default());
        out.push('"');
    }
}

impl ToJson for String {
    fn write(&self, out: &mut String) {
        self.as_str().write(out);
    }
}

impl ToJson for bool {
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl ToJson for i64 {
    fn write(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

impl ToJson for i32 {
    fn write(&self, out: &mut String) {
        i64::from(*self).write(out);
    }
}

/// JSON has neither infinities nor NaN; they are null.
impl ToJson for f64 {
    fn write(&self, out: &mut String) {
        if self.is_finite() {
            out.push_str(&self.to_string());
        } else {
            out.push_str("null");
        }
    }
}

impl ToJson for Json<'_> {
    fn write(&self, out: &mut String) {
        out.push_str(self.raw());
    }
}

impl ToJson for Text {
    fn write(&self, out: &mut String) {
        self.json().write(out);
    }
}

impl<T: ToJson> ToJson for [T] {
    fn write(&self, out: &mut String) {
        write_array(out, |a| self.iter().for_each(|v| a.put(v)));
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn write(&self, out: &mut String) {
        self.as_slice().write(out);
    }
}

impl<T: ToJson> ToJson for BTreeMap<String, T> {
    fn write(&self, out: &mut String) {
        write_object(out, |o| self.iter().for_each(|(key, v)| o.put(key, v)));
    }
}

/// None is null.
impl<T: ToJson> ToJson for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            None => Json::NULL.write(out),
            Some(v) => v.write(out),
        }
    }
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn write(&self, out: &mut String) {
        (**self).write(out);
    }
}
