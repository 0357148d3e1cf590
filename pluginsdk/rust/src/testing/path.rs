//! Field paths, and what they name in an object.

use crate::json::Json;
use crate::value::Encode;

/// A field path: its steps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FieldPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Each,
}

impl FieldPath {
    pub fn parse(text: &str) -> Option<FieldPath> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() || steps.is_empty() {
            if let Some(after) = rest.strip_prefix("[*]") {
                steps.push(Step::Each);
                rest = after;
            } else if let Some(quoted) = rest.strip_prefix("['") {
                let (key, after) = quoted_key(quoted)?;
                steps.push(Step::Key(key));
                rest = after;
            } else {
                let plain = if steps.is_empty() {
                    rest
                } else {
                    rest.strip_prefix('.')?
                };
                let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                let end = plain.find(|c| !is_plain(c)).unwrap_or(plain.len());
                let (key, after) = plain.split_at(end);
                if key.is_empty() {
                    return None;
                }
                steps.push(Step::Key(key.into()));
                rest = after;
            }
        }
        if steps[0] == Step::Each {
            return None;
        }
        Some(FieldPath(steps))
    }

    /// Whether who may touch this path may touch the other.
    pub fn covers(&self, other: &FieldPath) -> bool {
        other.0.starts_with(&self.0)
    }

    pub fn has_each(&self) -> bool {
        self.0.contains(&Step::Each)
    }

    pub fn ends_in_each(&self) -> bool {
        self.0.last() == Some(&Step::Each)
    }

    /// The encoded value at the path.
    pub fn encoded(&self, object: Json) -> Vec<u8> {
        let mut out = Vec::new();
        let found: Vec<Found> = self.find(object).into_iter().map(Found).collect();
        match self.has_each() {
            true => found.encode(&mut out),
            false => found.first().encode(&mut out),
        }
        out
    }

    /// The values at the path: a flat list for a path with [*], else one.
    pub fn find<'a>(&self, object: Json<'a>) -> Vec<Json<'a>> {
        let mut nodes = vec![object];
        for step in &self.0 {
            nodes = match step {
                Step::Key(key) => nodes.into_iter().map(|n| n.get(key)).collect(),
                Step::Each => nodes.into_iter().flat_map(Json::items).collect(),
            };
        }
        nodes
    }
}

/// Reads a key up to its quote and bracket.
fn quoted_key(text: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => return Some((key, text[at + 1..].strip_prefix(']')?)),
            '\\' => key.push(chars.next()?.1),
            _ => key.push(c),
        }
    }
    None
}

/// A value as the host encodes it: scalars and lists by themselves, objects as JSON.
pub(super) struct Found<'a>(pub Json<'a>);

impl Encode for Found<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        let v = self.0;
        if let Some(b) = v.bool() {
            b.encode(out);
        } else if let Some(n) = v.int() {
            n.encode(out);
        } else if let Some(n) = v.float() {
            n.encode(out);
        } else if let Some(text) = v.text() {
            text.encode(out);
        } else if v.is_array() {
            v.items().map(Found).collect::<Vec<_>>().encode(out);
        } else if v.is_object() {
            v.encode(out);
        } else {
            None::<bool>.encode(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &str, object: &str) -> Vec<String> {
        let found = FieldPath::parse(path).unwrap();
        found
            .find(Json::parse(object).unwrap())
            .iter()
            .map(|v| v.to_string())
            .collect()
    }

    #[test]
    fn values_at_a_path() {
        let pod = r#"{"metadata":{"labels":{"a.b/c":"1","it's":"2"}},
            "spec":{"containers":[{"image":"a","ports":[{"p":1},{"p":2}]},{},{"ports":[{}]}]}}"#;
        assert_eq!(texts("metadata.labels['a.b/c']", pod), ["\"1\""]);
        assert_eq!(texts("metadata.labels['it\\'s']", pod), ["\"2\""]);
        assert_eq!(texts("metadata.name", pod), ["null"]);
        assert_eq!(
            texts("spec.containers[*].image", pod),
            ["\"a\"", "null", "null"]
        );
        assert_eq!(
            texts("spec.containers[*].ports[*].p", pod),
            ["1", "2", "null"]
        );
        assert_eq!(texts("spec.volumes[*].name", pod), [""; 0]);
    }

    #[test]
    fn malformed_paths() {
        for text in [
            "", ".", "a.", "a..b", "[*]", "a[0]", "a['b", "a['b'", "a b", "a['b\\",
        ] {
            assert_eq!(FieldPath::parse(text), None, "{}", text);
        }
    }

    #[test]
    fn covered_paths() {
        let covers = |a: &str, b: &str| {
            FieldPath::parse(a)
                .unwrap()
                .covers(&FieldPath::parse(b).unwrap())
        };
        assert!(covers("metadata.labels", "metadata.labels['a.b/c']"));
        assert!(covers("spec.containers[*]", "spec.containers[*].image"));
        assert!(!covers("metadata.labels.a", "metadata.labels"));
        assert!(!covers("metadata.label", "metadata.labels"));
    }
}
