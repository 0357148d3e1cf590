//! Ways through text that is known to be JSON. On any other text they lead somewhere, but never
//! panic.

use std::borrow::Cow;

/// What stands between the brackets of an array or object.
pub(super) fn inside(text: &str) -> &str {
    text.get(1..text.len() - 1).unwrap_or_default()
}

/// Goes over white space, commas and colons.
pub(super) fn next(text: &str) -> &str {
    let between = |b: &u8| !b" \t\n\r,:".contains(b);
    text.as_bytes()
        .iter()
        .position(between)
        .and_then(|at| text.get(at..))
        .unwrap_or_default()
}

/// Splits off the value at the start.
pub(super) fn value(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let end = match bytes.first()? {
        b'"' => string(bytes, 0),
        b'{' | b'[' => nested(bytes),
        _ => bytes
            .iter()
            .position(|b| b",:]} \t\n\r".contains(b))
            .unwrap_or(bytes.len()),
    };
    // A value takes a byte at least, so whoever walks on arrives.
    Some((text.get(..end).filter(|v| !v.is_empty())?, text.get(end..)?))
}

/// Where the string ends that begins with the quote at that place.
fn string(bytes: &[u8], mut at: usize) -> usize {
    at += 1;
    while let Some(b) = bytes.get(at) {
        match b {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Where the array or object ends that begins the bytes.
fn nested(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while let Some(b) = bytes.get(at) {
        match b {
            b'"' => {
                at = string(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// A string without its quotes, with what its escapes mean.
pub(super) fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = rest.find('\\') {
        out.push_str(rest.get(..at)?);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = rest.get(at + 2..)?;
        out.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = unit(rest)?;
                rest = rest.get(4..)?;
                match rest.strip_prefix("\\u").and_then(unit) {
                    Some(low) if high >> 10 == 0x36 && low >> 10 == 0x37 => {
                        rest = rest.get(6..)?;
                        char::from_u32(0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff))?
                    }
                    _ => char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            other => other as char, // a quote, slash or backslash
        });
    }
    if out.is_empty() && rest.len() == text.len() {
        return Some(Cow::Borrowed(text));
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

/// The four hexadecimal digits at the start.
fn unit(text: &str) -> Option<u32> {
    text.as_bytes()
        .get(..4)?
        .iter()
        .try_fold(0, |n, &b| Some(n << 4 | (b as char).to_digit(16)?))
}
