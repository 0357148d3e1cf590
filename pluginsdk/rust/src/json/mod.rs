//! JSON as plan inputs, configurations and objects have it: a reader that looks into text on
//! demand, and a writer.

mod check;
mod scan;
mod write;

use std::borrow::Cow;
use std::fmt;

use crate::{Error, Result};

pub(crate) use write::write_object;
pub use write::{array, object, Array, Object, ToJson};

/// One value in a JSON text, which was checked as a whole. Where there is no such value there is
/// [`Json::NULL`], so that a way into an object needs no checks:
///
/// ```
/// let pod = cleat::json::Json::parse(r#"{"spec":{"hostNetwork":true}}"#)?;
/// assert_eq!(pod.get("spec").get("hostNetwork").bool(), Some(true));
/// assert!(pod.get("metadata").get("name").is_null());
/// # Ok::<(), cleat::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a> {
    text: &'a str, // without white space around it
}

impl<'a> Json<'a> {
    /// null, and what is absent.
    pub const NULL: Json<'static> = Json { text: "null" };

    /// Reads exactly one value. It refuses what two readers could take differently: a key that is
    /// there twice, and more than 64 levels.
    pub fn parse(text: &'a str) -> Result<Json<'a>> {
        match check::value(text) {
            Ok(text) => Ok(Json { text }),
            Err((at, why)) => Err(Error::new(
                ["json: byte ", &at.to_string(), ": ", why].concat(),
            )),
        }
    }

    /// parse for bytes.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Json<'a>> {
        Json::parse(std::str::from_utf8(bytes).map_err(|_| Error::new("json: not UTF-8"))?)
    }

    /// The text of the value.
    pub fn raw(self) -> &'a str {
        self.text
    }

    fn head(self) -> u8 {
        self.text.as_bytes().first().copied().unwrap_or_default()
    }

    /// Whether the value is null or absent.
    pub fn is_null(self) -> bool {
        self.head() == b'n'
    }

    /// Whether the value is an object.
    pub fn is_object(self) -> bool {
        self.head() == b'{'
    }

    /// Whether the value is an array.
    pub fn is_array(self) -> bool {
        self.head() == b'['
    }

    /// The boolean, `None` for any other value.
    pub fn bool(self) -> Option<bool> {
        match self.head() {
            b't' => Some(true),
            b'f' => Some(false),
            _ => None,
        }
    }

    /// The whole number, written without fraction and exponent; `None` for any other value and for
    /// one that does not fit.
    pub fn int(self) -> Option<i64> {
        self.text.parse().ok()
    }

    /// The number, `None` for any other value.
    pub fn float(self) -> Option<f64> {
        match self.head() {
            b'-' | b'0'..=b'9' => self.text.parse().ok(),
            _ => None,
        }
    }

    /// The string, `None` for any other value. Half of a surrogate pair becomes U+FFFD.
    pub fn text(self) -> Option<Cow<'a, str>> {
        scan::unescaped(self.text.strip_prefix('"')?.strip_suffix('"')?)
    }

    /// The value of a key of an object.
    pub fn get(self, key: &str) -> Json<'a> {
        self.members()
            .find(|(k, _)| k == key)
            .map_or(Json::NULL, |(_, v)| v)
    }

    /// The keys and values of an object, in the order in which they stand; none for any other
    /// value.
    pub fn members(self) -> Members<'a> {
        Members {
            rest: if self.is_object() {
                scan::inside(self.text)
            } else {
                ""
            },
        }
    }

    /// The elements of an array; none for any other value.
    pub fn items(self) -> Items<'a> {
        Items {
            rest: if self.is_array() {
                scan::inside(self.text)
            } else {
                ""
            },
        }
    }

    /// The elements of an array of strings; what is no string is "".
    pub fn strings(self) -> Vec<String> {
        self.items()
            .map(|v| v.text().unwrap_or_default().into_owned())
            .collect()
    }
}

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// See [`Json::items`].
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Items<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        let (text, rest) = scan::value(scan::next(self.rest))?;
        self.rest = rest;
        Some(Json { text })
    }
}

/// See [`Json::members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Json<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = scan::value(scan::next(self.rest))?;
        let (text, rest) = scan::value(scan::next(rest))?;
        self.rest = rest;
        Some((Json { text: key }.text()?, Json { text }))
    }
}

/// JSON text of one value that owns its memory. The default is null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// Checks a text as [`Json::parse`] does, and keeps it.
    pub fn parse(text: impl Into<String>) -> Result<Text> {
        let text = text.into();
        let value = Json::parse(&text)?;
        if value.text.len() < text.len() {
            return Ok(value.into());
        }
        Ok(Text(text))
    }

    /// The value.
    pub fn json(&self) -> Json<'_> {
        Json { text: &self.0 }
    }

    /// The value of a key of an object.
    pub fn get(&self, key: &str) -> Json<'_> {
        self.json().get(key)
    }
}

impl Default for Text {
    fn default() -> Text {
        Json::NULL.into()
    }
}

impl From<Json<'_>> for Text {
    fn from(value: Json) -> Text {
        Text(value.text.into())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
