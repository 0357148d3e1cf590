//! The extension point admission: allow, deny or change a request to the API server.
//!
//! The host calls a handler only for requests that match a rule of the manifest, and shows it only
//! the fields that the manifest declares.

use std::cell::{Cell, RefCell};

use crate::abi::{self, Field};
use crate::arena::Arena;
use crate::json::Json;
use crate::value::{Encode, Value};
use crate::{Errno, Error, Result};

/// A plugin whose manifest says `admission.mutate`.
pub trait Mutate {
    /// May change the object, or deny the request. An error is a fault of the plugin: what the
    /// failure policy says is done.
    fn mutate(&self, request: &Request) -> Result<()>;
}

/// A plugin whose manifest says `admission.validate`.
pub trait Validate {
    /// May deny the request. An error is a fault of the plugin.
    fn validate(&self, request: &Request) -> Result<()>;
}

/// A field path that the host knows; see [`Start::path`](crate::Start::path).
#[derive(Clone, Debug)]
pub struct Path {
    id: i32,
    text: Box<str>,
}

impl Path {
    pub(crate) fn new(id: i32, text: &str) -> Path {
        Path {
            id,
            text: text.into(),
        }
    }

    /// The path as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What one hook leaves to the next: its memory.
pub(crate) struct Memory {
    arena: Arena,
    scratch: RefCell<Vec<u8>>,
}

impl Memory {
    pub fn new() -> Memory {
        Memory {
            arena: Arena::new(),
            scratch: RefCell::new(Vec::new()),
        }
    }
}

/// Runs a hook.
pub(crate) fn decide(
    memory: &mut Memory,
    handle: i32,
    rules: u64,
    handler: impl FnOnce(&Request) -> Result<()>,
) -> i32 {
    memory.arena.clear();
    let r = Request {
        handle,
        rules,
        denied: Cell::new(false),
        failure: RefCell::new(None),
        memory,
    };
    let outcome = handler(&r);
    // What a handler makes of a failure of the host is not the cause.
    let failure = r.failure.take().or_else(|| outcome.err());
    match failure {
        Some(e) => e.tell(),
        None if r.denied.get() => abi::DENY,
        None => abi::ALLOW,
    }
}

/// The request that a handler decides.
///
/// The first host function that fails is remembered: what is read from then on is absent or empty,
/// and the hook ends as a fault of the plugin instead of a verdict. Handlers need not check.
pub struct Request<'a> {
    handle: i32,
    rules: u64,
    denied: Cell<bool>,
    failure: RefCell<Option<Error>>,
    memory: &'a Memory,
}

impl Request<'_> {
    /// Whether match rule n of the manifest, from 0, matched.
    pub fn rule(&self, n: u32) -> bool {
        self.rules.checked_shr(n).unwrap_or(0) & 1 == 1
    }

    /// Returns the value at a path, as the hook found it: changes of the running hook do not show.
    /// A path with `[*]` gives a list, with null where an element lacks the member.
    pub fn get(&self, path: &Path) -> Value<'_> {
        self.value("get", &path.text, |buf| {
            abi::object_get(self.handle, path.id, buf)
        })
    }

    /// Sets the value at a write path. Changes are made in order once the handler has returned
    /// without denial or failure.
    pub fn set(&self, path: &Path, value: impl Encode) {
        self.set_index(path, SINGLE, value);
    }

    /// `set` for a path with `[*]`: at a position in the list that `get` returns.
    pub fn set_at(&self, path: &Path, index: usize, value: impl Encode) {
        self.set_index(path, index as i32, value);
    }

    /// Removes the member at a write path. To remove what is absent is no error.
    pub fn remove(&self, path: &Path) {
        self.remove_index(path, SINGLE);
    }

    /// `remove` for a path with `[*]`. When the path ends in `[*]`, that element goes; positions
    /// count in the list that `get` returns, whatever was removed before.
    pub fn remove_at(&self, path: &Path, index: usize) {
        self.remove_index(path, index as i32);
    }

    /// Appends an element to the list at a write path, which is made when it is absent.
    pub fn append(&self, path: &Path, value: impl Encode) {
        self.append_index(path, SINGLE, value);
    }

    /// `append` for a path with `[*]`, which names the list without a last `[*]`.
    pub fn append_at(&self, path: &Path, index: usize, value: impl Encode) {
        self.append_index(path, index as i32, value);
    }

    fn set_index(&self, path: &Path, index: i32, value: impl Encode) {
        let n = self.encoded(value, |v| abi::object_set(self.handle, path.id, index, v));
        self.check(n, "set", &path.text);
    }

    fn remove_index(&self, path: &Path, index: i32) {
        self.check(
            abi::object_remove(self.handle, path.id, index),
            "remove",
            &path.text,
        );
    }

    fn append_index(&self, path: &Path, index: i32, value: impl Encode) {
        let n = self.encoded(value, |v| {
            abi::object_append(self.handle, path.id, index, v)
        });
        self.check(n, "append to", &path.text);
    }

    fn encoded(&self, value: impl Encode, call: impl FnOnce(&[u8]) -> i32) -> i32 {
        let mut scratch = self.memory.scratch.borrow_mut();
        scratch.clear();
        value.encode(&mut scratch);
        call(&scratch)
    }

    /// CREATE, UPDATE, DELETE or CONNECT.
    pub fn operation(&self) -> &str {
        self.field(Field::Operation)
    }

    /// The API group, "" for the core group.
    pub fn group(&self) -> &str {
        self.field(Field::Group)
    }

    /// The API version.
    pub fn version(&self) -> &str {
        self.field(Field::Version)
    }

    /// The kind of the object.
    pub fn kind(&self) -> &str {
        self.field(Field::Kind)
    }

    /// The resource, "pods" for example.
    pub fn resource(&self) -> &str {
        self.field(Field::Resource)
    }

    /// The subresource, "" if there is none.
    pub fn subresource(&self) -> &str {
        self.field(Field::Subresource)
    }

    /// The namespace, "" for an object of the cluster.
    pub fn namespace(&self) -> &str {
        self.field(Field::Namespace)
    }

    /// The name of the object, "" when the server is to generate it.
    pub fn name(&self) -> &str {
        self.field(Field::Name)
    }

    /// The name of the user who asks.
    pub fn user(&self) -> &str {
        self.field(Field::User)
    }

    /// The unique id of the user who asks, "" if there is none. It needs ABI 1.1.
    pub fn user_uid(&self) -> &str {
        self.field(Field::UserUid)
    }

    /// Whether nothing will be stored.
    pub fn dry_run(&self) -> bool {
        self.field(Field::DryRun) == "true"
    }

    /// The id of the request, as it appears in logs and audit events.
    pub fn id(&self) -> &str {
        self.field(Field::Id)
    }

    fn field(&self, field: Field) -> &str {
        let answer = self.fill(256, |buf| abi::request_get(self.handle, field as i32, buf));
        self.text(answer, "request field", field.name())
            .unwrap_or_default()
    }

    /// The groups of the user who asks. It needs ABI 1.1.
    pub fn user_groups(&self) -> impl Iterator<Item = &str> {
        let groups = self.value("user groups", "", |buf| {
            abi::user_groups_get(self.handle, buf)
        });
        groups.list().filter_map(Value::text)
    }

    /// What the authenticator adds to the user under a key, `None` when it adds nothing there. It
    /// needs ABI 1.1.
    pub fn user_extra(&self, key: &str) -> Option<impl Iterator<Item = &str>> {
        let extra = self.value("user extra", key, |buf| {
            absent_is_null(abi::user_extra_get(self.handle, key.as_bytes(), buf), buf)
        });
        match extra {
            Value::Null => None,
            list => Some(list.list().filter_map(Value::text)),
        }
    }

    /// The value of a label of the namespace, `None` when there is none.
    pub fn namespace_label(&self, key: &str) -> Option<&str> {
        let call = |buf: &mut [u8]| abi::namespace_label_get(self.handle, key.as_bytes(), buf);
        match self.fill(64, call) {
            Err(Errno::ENOENT) => None,
            answer => self.text(answer, "namespace label", key),
        }
    }

    /// The whole object, null when it is absent. It needs the capability `cleat_object_json_v1`.
    pub fn object(&self) -> Json<'_> {
        self.whole(abi::OBJECT_NEW)
    }

    /// The object as it is stored, on UPDATE and DELETE. It needs the capability
    /// `cleat_object_json_v1`.
    pub fn old_object(&self) -> Json<'_> {
        self.whole(abi::OBJECT_OLD)
    }

    fn whole(&self, which: i32) -> Json<'_> {
        self.fill(8192, |buf| abi::object_json(self.handle, which, buf))
            .and_then(|bytes| Json::from_bytes(bytes).map_err(|_| Errno::EIO))
            .unwrap_or_else(|errno| {
                self.fail(errno, "object as JSON", "");
                Json::NULL
            })
    }

    /// Denies the request with status 403. The message names the field, the value and the way out;
    /// a later denial replaces it.
    pub fn deny(&self, message: &str) {
        self.deny_with(0, message);
    }

    /// `deny` with an HTTP status, 400 to 599.
    pub fn deny_with(&self, status: i32, message: &str) {
        self.denied.set(true);
        self.check(
            abi::deny(self.handle, message.as_bytes(), status),
            "deny",
            "",
        );
    }

    /// Adds a warning that the client shows, on one line.
    pub fn warn(&self, text: &str) {
        self.check(abi::warn(self.handle, text.as_bytes()), "warn", "");
    }

    /// Adds an annotation to the audit event, under the name of the plugin.
    pub fn audit(&self, key: &str, value: &str) {
        let n = abi::audit(self.handle, key.as_bytes(), value.as_bytes());
        self.check(n, "audit annotation", key);
    }

    fn fill(
        &self,
        least: usize,
        call: impl Fn(&mut [u8]) -> i32,
    ) -> std::result::Result<&[u8], Errno> {
        if self.failure.borrow().is_some() {
            return Err(Errno::EIO); // which is not remembered any more
        }
        self.memory.arena.fill(least, call)
    }

    fn value(&self, what: &str, detail: &str, call: impl Fn(&mut [u8]) -> i32) -> Value<'_> {
        self.fill(512, call)
            .and_then(|bytes| Value::decode(bytes).ok_or(Errno::EIO))
            .unwrap_or_else(|errno| {
                self.fail(errno, what, detail);
                Value::Null
            })
    }

    fn text<'r>(
        &self,
        answer: std::result::Result<&'r [u8], Errno>,
        what: &str,
        detail: &str,
    ) -> Option<&'r str> {
        match answer.and_then(|bytes| std::str::from_utf8(bytes).map_err(|_| Errno::EIO)) {
            Ok(text) => Some(text),
            Err(errno) => {
                self.fail(errno, what, detail);
                None
            }
        }
    }

    fn check(&self, n: i32, what: &str, detail: &str) {
        if n < 0 {
            self.fail(Errno(n), what, detail);
        }
    }

    #[cold]
    fn fail(&self, errno: Errno, what: &str, detail: &str) {
        let mut failure = self.failure.borrow_mut();
        if failure.is_none() {
            *failure = Some(Error::host(errno, what, detail));
        }
    }
}

/// The index for a path without [*].
const SINGLE: i32 = -1;

/// Turns ENOENT into the value null.
fn absent_is_null(n: i32, buf: &mut [u8]) -> i32 {
    match (Errno(n), buf.first_mut()) {
        (Errno::ENOENT, Some(tag)) => {
            *tag = abi::TAG_NULL;
            1
        }
        _ => n,
    }
}
