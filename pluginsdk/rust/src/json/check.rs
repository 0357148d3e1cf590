//! Checks whether text is JSON.

use std::collections::BinaryHeap;

use super::Json;
use crate::abi;

/// Returns the text of the one value there is, without white space around it; otherwise where it
/// goes wrong, and why.
pub(super) fn value(text: &str) -> Result<&str, (usize, &'static str)> {
    let mut c = Checker { text, at: 0 };
    c.space();
    let start = c.at;
    c.value(0).map_err(|why| (c.at, why))?;
    let end = c.at;
    c.space();
    if c.at < text.len() {
        return Err((c.at, "text after the value"));
    }
    text.get(start..end).ok_or((start, WANT_VALUE))
}

const WANT_VALUE: &str = "want a value";

struct Checker<'a> {
    text: &'a str,
    at: usize,
}

type Checked = Result<(), &'static str>;

impl Checker<'_> {
    fn peek(&self) -> u8 {
        // No JSON text contains the character 0.
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn skip(&mut self, byte: u8) -> bool {
        let there = self.peek() == byte;
        self.at += there as usize;
        there
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Checked {
        match self.peek() {
            b'{' | b'[' if depth == abi::MAX_JSON_DEPTH => Err("nested deeper than 64"),
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b'"' => self.string(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(WANT_VALUE),
        }
    }

    fn word(&mut self, word: &str) -> Checked {
        match self.text.get(self.at..) {
            Some(rest) if rest.starts_with(word) => {
                self.at += word.len();
                Ok(())
            }
            _ => Err(WANT_VALUE),
        }
    }

    fn array(&mut self, depth: usize) -> Checked {
        self.at += 1;
        self.space();
        if self.skip(b']') {
            return Ok(());
        }
        loop {
            self.space();
            self.value(depth)?;
            self.space();
            if !self.skip(b',') {
                return if self.skip(b']') {
                    Ok(())
                } else {
                    Err("want a comma or ]")
                };
            }
        }
    }

    fn object(&mut self, depth: usize) -> Checked {
        let start = self.at;
        self.at += 1;
        self.space();
        if self.skip(b'}') {
            return Ok(());
        }
        // Keys that ascend differ. Canonical JSON has no others.
        let (mut previous, mut ascending) = ("", true);
        loop {
            self.space();
            let from = self.at;
            if self.peek() != b'"' {
                return Err("want a key in quotes");
            }
            self.string()?;
            let key = self.text.get(from..self.at).unwrap_or_default();
            ascending = ascending && previous < key && !key.contains('\\');
            previous = key;
            self.space();
            if !self.skip(b':') {
                return Err("want a colon");
            }
            self.space();
            self.value(depth)?;
            self.space();
            if !self.skip(b',') {
                break;
            }
        }
        if !self.skip(b'}') {
            return Err("want a comma or }");
        }
        if !ascending && has_twins(self.text.get(start..self.at).unwrap_or_default()) {
            return Err("a key that is there twice");
        }
        Ok(())
    }

    fn string(&mut self) -> Checked {
        self.at += 1;
        loop {
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => {
                    self.at += 1;
                    self.escape()?;
                }
                0 if self.at >= self.text.len() => return Err("a string without an end"),
                0..=0x1f => return Err("a control character in a string"),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Checked {
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_ascii_hexdigit() {
                        return Err("want four hexadecimal digits");
                    }
                    self.at += 1;
                }
            }
            _ => return Err("an unknown escape in a string"),
        }
        Ok(())
    }

    fn number(&mut self) -> Checked {
        self.skip(b'-');
        if !self.skip(b'0') {
            self.digits()?;
        }
        if self.skip(b'.') {
            self.digits()?;
        }
        if self.skip(b'e') || self.skip(b'E') {
            let _ = self.skip(b'+') || self.skip(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Checked {
        if !self.peek().is_ascii_digit() {
            return Err("want a digit");
        }
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }
}

fn has_twins(object: &str) -> bool {
    // A heap gives the keys in order, in a tenth of the code that sorting takes.
    let mut keys: BinaryHeap<_> = Json { text: object }
        .members()
        .map(|(key, _)| key)
        .collect();
    let mut previous = keys.pop();
    while let Some(key) = keys.pop() {
        if previous.as_ref() == Some(&key) {
            return true;
        }
        previous = Some(key);
    }
    false
}
