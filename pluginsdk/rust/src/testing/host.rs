//! The host of native tests.

mod calls;

use std::collections::BTreeMap;

use super::path::{FieldPath, Found};
use super::{Mutation, Request, Verdict, World};
use crate::abi::{self, limit};
use crate::json::{Json, Text, ToJson};
use crate::message::Field;
use crate::value::{Encode, Value};
use crate::{Errno, Error, Result};

/// The handle of every request; not 0, so that a plugin which passes none is noticed.
pub(super) const HANDLE: i32 = 7;

pub(super) struct Host {
    pub world: World,
    pub verdict: Verdict,
    pub output: Option<Text>,
    manifest: Text,
    config: Text,
    readable: Vec<FieldPath>,
    writable: Vec<FieldPath>,
    paths: Vec<(String, FieldPath)>, // by number
    moment: Moment,
    error_text: String,
    state: BTreeMap<String, Vec<u8>>, // set by the running hook
}

/// What the plugin is doing.
pub(super) enum Moment {
    Start,
    Admission {
        request: Box<Request>,
        mutating: bool,
    },
    Plan {
        input: String,
    },
    Idle,
}

impl Host {
    pub fn new(manifest: Text, config: Text) -> Result<Host> {
        let admission = manifest.get("admission");
        let paths = |key: &str| -> Result<Vec<FieldPath>> {
            admission
                .get(key)
                .strings()
                .iter()
                .map(|text| {
                    FieldPath::parse(text)
                        .ok_or_else(|| Error::new(format!("{key}: {text} is no field path")))
                })
                .collect()
        };
        Ok(Host {
            readable: paths("read_paths")?,
            writable: paths("write_paths")?,
            world: World::default(),
            verdict: Verdict::default(),
            output: None,
            config,
            paths: Vec::new(),
            moment: Moment::Start,
            error_text: String::new(),
            state: BTreeMap::new(),
            manifest,
        })
    }

    pub fn enter(&mut self, moment: Moment) {
        self.moment = moment;
        self.verdict = Verdict::default();
        self.output = None;
        self.error_text.clear();
        self.state.clear();
    }

    pub fn leave(&mut self, n: i32) -> Result<()> {
        let state = std::mem::take(&mut self.state);
        let moment = std::mem::replace(&mut self.moment, Moment::Idle);
        if n < 0 {
            return Err(self.error(n));
        }
        let dry_run = matches!(&moment, Moment::Admission { request, .. } if request.dry_run);
        if !dry_run {
            self.world.state.extend(state);
            self.world.state.retain(|_, value| !value.is_empty());
        }
        Ok(())
    }

    /// What the operator is told.
    pub fn error(&self, errno: i32) -> Error {
        match self.error_text.as_str() {
            "" => Errno(errno).into(),
            text => Error::with_errno(Errno(errno), text),
        }
    }

    fn may(&self, capability: &str) -> Answer<()> {
        let has = self
            .manifest
            .get("capabilities")
            .strings()
            .iter()
            .any(|c| c == capability);
        if has {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    fn request(&self, capability: &str, handle: i32) -> Answer<&Request> {
        self.may(capability)?;
        match &self.moment {
            Moment::Admission { request, .. } if handle == HANDLE => Ok(request),
            _ => Err(Errno::EBADF),
        }
    }

    fn path(&self, id: i32) -> Answer<&(String, FieldPath)> {
        self.paths.get(id as usize).ok_or(Errno::EINVAL)
    }

    fn record(
        &mut self,
        op: &'static str,
        handle: i32,
        id: i32,
        index: i32,
        value: &[u8],
    ) -> Answer<i32> {
        let request = self.request("cleat_object_v1", handle)?;
        if !matches!(self.moment, Moment::Admission { mutating: true, .. }) {
            return Err(Errno::ENOTSUP);
        }
        let (text, path) = self.path(id)?;
        if path.has_each() != (index >= 0) || index < -1 || op == "append" && path.ends_in_each() {
            return Err(Errno::EINVAL);
        }
        if !self.writable.iter().any(|w| w.covers(path)) {
            return Err(Errno::EACCES);
        }
        let object = object(&request.object)?;
        if index >= 0 && path.find(object.json()).len() <= index as usize {
            return Err(Errno::ENOENT);
        }
        if self.verdict.mutations.len() == limit::MUTATIONS {
            return Err(Errno::E2BIG);
        }
        let value = match op {
            "remove" => Text::default(),
            _ => json(Value::decode(value).ok_or(Errno::EINVAL)?)?,
        };
        let index = usize::try_from(index).ok();
        self.verdict.mutations.push(Mutation {
            op,
            path: text.clone(),
            index,
            value,
        });
        Ok(0)
    }

    fn lookup(&self, kind: &str) -> Answer<impl Iterator<Item = Json<'_>> + '_> {
        self.may("cleat_lookup_v1")?;
        if !self
            .manifest
            .get("lookups")
            .strings()
            .iter()
            .any(|k| k == kind)
        {
            return Err(Errno::EACCES);
        }
        self.cluster()?;
        let kind = kind.to_string();
        let is_kind = move |o: &Json| {
            let text = |key| o.get(key).text().unwrap_or_default();
            format!("{}/{}", text("apiVersion"), text("kind")) == kind
        };
        Ok(self.world.objects.iter().map(Text::json).filter(is_kind))
    }

    fn cluster(&self) -> Answer<()> {
        match (self.world.cluster_errno, &self.moment) {
            (Some(errno), _) => Err(errno),
            (None, Moment::Start) => Err(Errno::ENOTSUP),
            _ => Ok(()),
        }
    }

    fn rendered<A: ToJson>(
        &mut self,
        result: std::result::Result<A, String>,
        buf: &mut [u8],
    ) -> Answer<i32> {
        match result {
            Ok(answer) => {
                let mut text = String::new();
                answer.write(&mut text);
                Ok(fill(buf, text.as_bytes()))
            }
            Err(why) => {
                self.error_text = why;
                Err(Errno::EINVAL)
            }
        }
    }
}

/// What a host function answers.
type Answer<T> = std::result::Result<T, Errno>;

fn number(answer: Answer<i32>) -> i32 {
    answer.unwrap_or_else(|errno| errno.0)
}

/// Fills a buffer as the ABI says.
fn fill(buf: &mut [u8], data: &[u8]) -> i32 {
    if let Some(room) = buf.get_mut(..data.len()) {
        room.copy_from_slice(data);
    }
    data.len() as i32
}

fn fill_value(buf: &mut [u8], value: impl Encode) -> i32 {
    let mut data = Vec::new();
    value.encode(&mut data);
    fill(buf, &data)
}

fn text(bytes: &[u8]) -> Answer<&str> {
    std::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)
}

/// Text, cut where the ABI cuts it.
fn cut(bytes: &[u8], most: usize) -> String {
    let mut end = bytes.len().min(most);
    while end < bytes.len() && bytes[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The JSON of an object of the test, which may be absent.
fn object(json: &str) -> Answer<Text> {
    Text::parse(if json.is_empty() { "null" } else { json }).map_err(|_| Errno::EIO)
}

/// A value as JSON.
fn json(value: Value) -> Answer<Text> {
    let text = match value {
        Value::Json(text) => Text::parse(text).map_err(|_| Errno::EINVAL)?,
        Value::List(list) => {
            let items = list.map(json).collect::<Answer<Vec<Text>>>()?;
            crate::json::array(|a| items.iter().for_each(|v| a.put(v)))
        }
        scalar => {
            let mut out = String::new();
            match scalar {
                Value::Bool(b) => b.write(&mut out),
                Value::Int(n) => n.write(&mut out),
                Value::Float(n) => n.write(&mut out),
                Value::Text(s) => s.write(&mut out),
                _ => None::<bool>.write(&mut out),
            }
            Text::parse(out).map_err(|_| Errno::EINVAL)?
        }
    };
    Ok(text)
}

/// Whether labels fit a selector of equalities, which is all that is known here.
fn selects(selector: &str, labels: Json) -> Answer<bool> {
    let mut all = true;
    for term in selector.split(',').filter(|term| !term.is_empty()) {
        let (key, want) = term.split_once('=').ok_or(Errno::EINVAL)?;
        all &= labels.get(key.trim()).text().as_deref() == Some(want.trim());
    }
    Ok(all)
}

/// Reads documents between lines of three dashes, each of them JSON or empty.
fn documents(text: &str) -> std::result::Result<Vec<Text>, String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        match documents.last_mut() {
            Some(document) if line != "---" => document.push_str(line),
            _ => documents.push(String::new()),
        }
    }
    if documents[0].is_empty() {
        documents.remove(0); // what is before the first line of dashes
    }
    let read = |document: &String| match document.trim() {
        "" => Ok(Text::default()),
        json => Text::parse(json).map_err(|e| {
            format!("{e}; a native test reads YAML only where it is JSON, see World::render_yaml")
        }),
    };
    documents.iter().map(read).collect()
}

/// Namespace and name of an object.
fn place(object: Json) -> (String, String) {
    let text = |key| {
        object
            .get("metadata")
            .get(key)
            .text()
            .unwrap_or_default()
            .into_owned()
    };
    (text("namespace"), text("name"))
}

/// The encoded value at a path of an object, or of all of it.
fn at(path: &str, object: Json) -> Answer<Vec<u8>> {
    if path.is_empty() {
        let mut out = Vec::new();
        Found(object).encode(&mut out);
        return Ok(out);
    }
    Ok(FieldPath::parse(path).ok_or(Errno::EINVAL)?.encoded(object))
}
