//! Values as they cross the boundary at the point admission, and in lookups.

use crate::abi::{self, Errno};
use crate::json::{Json, Text};

/// One value. It refers to the memory it was read into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// null, and what is absent
    Null,
    /// a boolean
    Bool(bool),
    /// a whole number
    Int(i64),
    /// any other number
    Float(f64),
    /// a string
    Text(&'a str),
    /// a list
    List(List<'a>),
    /// anything else, an object mostly, as JSON text; see [`Value::json`]
    Json(&'a str),
}

impl<'a> Value<'a> {
    /// Whether the value is null or absent.
    pub fn is_null(self) -> bool {
        self == Value::Null
    }

    /// The boolean, `None` for any other value.
    pub fn bool(self) -> Option<bool> {
        match self {
            Value::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// The whole number, `None` for any other value.
    pub fn int(self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(n),
            _ => None,
        }
    }

    /// The number, whole or not, `None` for any other value.
    pub fn float(self) -> Option<f64> {
        match self {
            Value::Float(n) => Some(n),
            Value::Int(n) => Some(n as f64),
            _ => None,
        }
    }

    /// The string, `None` for any other value.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Value::Text(s) => Some(s),
            _ => None,
        }
    }

    /// The elements of a list; none for any other value.
    pub fn list(self) -> List<'a> {
        match self {
            Value::List(list) => list,
            _ => List {
                count: 0,
                rest: &[],
            },
        }
    }

    /// An object, `None` for any other value.
    pub fn json(self) -> Option<Json<'a>> {
        match self {
            Value::Json(text) => Json::parse(text).ok(),
            _ => None,
        }
    }

    /// Reads bytes that are exactly one well-formed value.
    pub fn decode(bytes: &'a [u8]) -> Option<Value<'a>> {
        match (check(bytes, 0)?, bytes) {
            // Nothing follows, so there is no need to look for its end again.
            ([], [abi::TAG_LIST, list @ ..]) => {
                let (count, rest) = take_u32(list)?;
                Some(Value::List(List { count, rest }))
            }
            ([], _) => Some(take(bytes)?.0),
            _ => None,
        }
    }
}

/// The elements of a list, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct List<'a> {
    count: u32,
    rest: &'a [u8], // that many values, which were checked
}

impl<'a> Iterator for List<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if self.count == 0 {
            return None;
        }
        let (value, rest) = take(self.rest)?;
        self.count -= 1;
        self.rest = rest;
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count as usize, Some(self.count as usize))
    }
}

impl ExactSizeIterator for List<'_> {}

/// Checks the value at the start of the bytes and returns what follows it.
fn check(bytes: &[u8], depth: usize) -> Option<&[u8]> {
    let (&tag, bytes) = bytes.split_first()?;
    match tag {
        abi::TAG_NULL | abi::TAG_FALSE | abi::TAG_TRUE => Some(bytes),
        abi::TAG_INT | abi::TAG_FLOAT => bytes.get(8..),
        abi::TAG_STRING | abi::TAG_JSON => {
            let (text, rest) = take_text(bytes)?;
            std::str::from_utf8(text).ok().map(|_| rest)
        }
        abi::TAG_LIST if depth < abi::MAX_LIST_DEPTH => {
            let (count, mut rest) = take_u32(bytes)?;
            // An element takes a byte at least, so the bytes bound the count too.
            for _ in 0..count {
                rest = check(rest, depth + 1)?;
            }
            Some(rest)
        }
        _ => None,
    }
}

/// Takes the value at the start of bytes that were checked.
fn take(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    // Only check, which has seen these bytes, lets them get here.
    let text = |text| unsafe { std::str::from_utf8_unchecked(text) };
    Some(match tag {
        abi::TAG_FALSE => (Value::Bool(false), bytes),
        abi::TAG_TRUE => (Value::Bool(true), bytes),
        abi::TAG_INT => {
            let (n, rest) = take_array(bytes)?;
            (Value::Int(i64::from_le_bytes(n)), rest)
        }
        abi::TAG_FLOAT => {
            let (n, rest) = take_array(bytes)?;
            (Value::Float(f64::from_le_bytes(n)), rest)
        }
        abi::TAG_STRING => {
            let (bytes, rest) = take_text(bytes)?;
            (Value::Text(text(bytes)), rest)
        }
        abi::TAG_JSON => {
            let (bytes, rest) = take_text(bytes)?;
            (Value::Json(text(bytes)), rest)
        }
        abi::TAG_LIST => {
            let (count, elements) = take_u32(bytes)?;
            let mut rest = elements;
            for _ in 0..count {
                rest = take(rest)?.1;
            }
            let list = List {
                count,
                rest: elements,
            };
            (Value::List(list), rest)
        }
        _ => (Value::Null, bytes),
    })
}

fn take_array<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    let head = bytes.get(..N)?.try_into().ok()?;
    Some((head, bytes.get(N..)?))
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (n, rest) = take_array(bytes)?;
    Some((u32::from_le_bytes(n), rest))
}

fn take_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, bytes) = take_u32(bytes)?;
    let length = length as usize;
    Some((bytes.get(..length)?, bytes.get(length..)?))
}

/// A value that owns its memory.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedValue(Vec<u8>);

impl OwnedValue {
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<OwnedValue, Errno> {
        if Value::decode(&bytes).is_none() {
            return Err(Errno::EIO);
        }
        Ok(OwnedValue(bytes))
    }

    /// The value.
    pub fn value(&self) -> Value<'_> {
        Value::decode(&self.0).unwrap_or(Value::Null)
    }
}

/// What can be written as a value. JSON text is `Json` or `Text`.
pub trait Encode {
    /// Appends the encoded value.
    fn encode(&self, out: &mut Vec<u8>);
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(if *self { abi::TAG_TRUE } else { abi::TAG_FALSE });
    }
}

impl Encode for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(abi::TAG_INT);
        out.extend_from_slice(&self.to_le_bytes());
    }
}

impl Encode for i32 {
    fn encode(&self, out: &mut Vec<u8>) {
        i64::from(*self).encode(out);
    }
}

impl Encode for f64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(abi::TAG_FLOAT);
        out.extend_from_slice(&self.to_le_bytes());
    }
}

impl Encode for str {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(abi::TAG_STRING, self, out);
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_str().encode(out);
    }
}

impl Encode for Json<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(abi::TAG_JSON, self.raw(), out);
    }
}

impl Encode for Text {
    fn encode(&self, out: &mut Vec<u8>) {
        self.json().encode(out);
    }
}

impl<T: Encode> Encode for [T] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(abi::TAG_LIST);
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        self.iter().for_each(|v| v.encode(out));
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_slice().encode(out);
    }
}

/// None is null.
impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(abi::TAG_NULL),
            Some(v) => v.encode(out),
        }
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

fn encode_text(tag: u8, text: &str, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(v: impl Encode) -> Vec<u8> {
        let mut out = Vec::new();
        v.encode(&mut out);
        out
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Value::decode(&encoded(None::<bool>)), Some(Value::Null));
        assert_eq!(Value::decode(&encoded(true)), Some(Value::Bool(true)));
        assert_eq!(Value::decode(&encoded(-7)), Some(Value::Int(-7)));
        assert_eq!(
            Value::decode(&encoded(i64::MIN)),
            Some(Value::Int(i64::MIN))
        );
        assert_eq!(Value::decode(&encoded(0.5)), Some(Value::Float(0.5)));
        assert_eq!(Value::decode(&encoded("grüß")), Some(Value::Text("grüß")));
        assert_eq!(
            Value::decode(&encoded(Json::NULL)),
            Some(Value::Json("null"))
        );
        let bytes = encoded(vec![vec![Some("a"), None], vec![]]);
        let mut lists = Value::decode(&bytes).unwrap().list();
        assert_eq!(lists.len(), 2);
        let first: Vec<Value> = lists.next().unwrap().list().collect();
        assert_eq!(first, [Value::Text("a"), Value::Null]);
        assert_eq!(lists.next().unwrap().list().count(), 0);
        assert_eq!(lists.next(), None);
    }

    #[test]
    fn accessors_refuse_other_types() {
        let v = Value::Text("1");
        assert_eq!(
            (v.int(), v.float(), v.bool(), v.json()),
            (None, None, None, None)
        );
        assert_eq!((v.list().count(), v.is_null()), (0, false));
        assert_eq!(
            (Value::Int(2).text(), Value::Int(2).float()),
            (None, Some(2.0))
        );
        assert_eq!(Value::Json("{").json(), None);
        assert_eq!(
            Value::Json(r#"{"a":1}"#).json().unwrap().get("a").int(),
            Some(1)
        );
    }

    #[test]
    fn malformed_values() {
        let deep = |n: usize| [[abi::TAG_LIST, 1, 0, 0, 0].repeat(n), vec![abi::TAG_NULL]].concat();
        assert!(Value::decode(&deep(abi::MAX_LIST_DEPTH)).is_some());
        for bytes in [
            &b""[..],
            b"\x08",
            b"\xff",
            b"\x00\x00",                         // more than one value
            b"\x03\x00\x00\x00\x00\x00\x00\x00", // a number too short
            b"\x04",
            b"\x05",
            b"\x05\x02\x00\x00\x00a", // text too short
            b"\x05\xff\xff\xff\xffa",
            b"\x05\x01\x00\x00\x00\xff", // text that is not UTF-8
            b"\x07\x01\x00\x00\x00",
            b"\x06\x01\x00\x00",
            b"\x06\x01\x00\x00\x00", // a list too short
            b"\x06\xff\xff\xff\xff\x00",
            b"\x06\x01\x00\x00\x00\x09",
            &deep(abi::MAX_LIST_DEPTH + 1),
        ] {
            assert_eq!(Value::decode(bytes), None, "{:?}", bytes);
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let good = encoded(vec![Some("text"), None, Some("more")]);
        for at in 0..good.len() {
            for b in 0..=255 {
                let mut bad = good.clone();
                bad[at] = b;
                if let Some(v) = Value::decode(&bad) {
                    v.list().for_each(drop);
                }
            }
            Value::decode(&good[..at]);
        }
    }
}
