//! Runs a plugin natively, against a host that holds the manifest: capabilities and paths that are
//! not declared are refused.
//!
//! ```ignore
//! let mut plugin = testing::start::<Policy>(include_str!("../manifest.json"), "{}")?;
//! let pod = r#"{"spec":{"hostNetwork":true}}"#;
//! let verdict = plugin.validate(&testing::Request { object: pod.into(), ..Default::default() })?;
//! assert_eq!(verdict.message, "spec.hostNetwork: true is not allowed; leave it out");
//! ```
//!
//! What it does not show is left to `cleat plugin verify`: match rules are not looked at, types in
//! the configuration are not checked, and YAML is read only where it is JSON.

mod host;
mod path;
#[cfg(test)]
mod tests;

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::abi;
use crate::admission::{Mutate, Validate};
use crate::json::{object, Json, Text, ToJson};
use crate::message::Field;
use crate::messages::{
    CNIPlan, CNIRequest, DatastorePlan, DatastoreRequest, DeployRequest, DeployResult, HelmRequest,
    HelmResult, KustomizeRequest,
};
use crate::plan::{Cni, Datastore, Deployer};
use crate::plugin::Instance;
use crate::{Errno, Error, Result};
use host::{Host, Moment};

/// A plugin under test that has started.
pub struct Plugin<T> {
    instance: Instance<T>,
    host: Rc<RefCell<Host>>,
}

/// Starts a plugin as the host does. The configuration is JSON; keys that it leaves out have the
/// defaults of the manifest.
pub fn start<T: crate::Plugin>(manifest: &str, config: &str) -> Result<Plugin<T>> {
    let manifest = Text::parse(manifest)?;
    let config = configuration(&manifest, Json::parse(config)?)?;
    let host = Rc::new(RefCell::new(Host::new(manifest, config)?));
    match abi::with_host(host.clone(), Instance::start) {
        Ok(instance) => Ok(Plugin { instance, host }),
        Err(errno) => {
            let e = host.borrow().error(errno);
            Err(e)
        }
    }
}

fn configuration(manifest: &Text, given: Json) -> Result<Text> {
    let schema = manifest.get("config_schema");
    for (key, _) in given.members() {
        if schema.get(&key).is_null() {
            return Err(Error::new(format!(
                "config {key}: the manifest has no such key"
            )));
        }
    }
    Ok(object(|o| {
        for (key, field) in schema.members() {
            let value = match given.get(&key) {
                Json::NULL => field.get("default"),
                value => value,
            };
            if !value.is_null() {
                o.put(&key, value);
            }
        }
    }))
}

/// What the host knows, and what the plugin has told it.
#[derive(Default)]
pub struct World {
    /// the time at which hooks are entered, in nanoseconds since 1970
    pub now: i64,
    /// what `random` repeats; zeros when empty
    pub random: Vec<u8>,
    /// what lookups find, each an object with apiVersion, kind and metadata.name
    pub objects: Vec<Text>,
    /// the state of the plugin; what a hook sets is added once it has decided
    pub state: BTreeMap<String, Vec<u8>>,
    /// what lookups and state answer, for a cluster that cannot be asked
    pub cluster_errno: Option<Errno>,
    /// in place of the host's renderer of YAML
    pub render_yaml: Option<Renderer<str, Vec<Text>>>,
    /// in place of the host's renderer of charts
    pub render_helm: Option<Renderer<HelmRequest, HelmResult>>,
    /// in place of the host's renderer of kustomizations
    pub render_kustomize: Option<Renderer<KustomizeRequest, Vec<Text>>>,
    /// the lines that the plugin has logged
    pub logs: Vec<String>,
}

/// A renderer; its error is what the host would tell the operator.
pub type Renderer<Q, A> = Box<dyn Fn(&Q) -> std::result::Result<A, String>>;

/// A request to the API server.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Request {
    /// bit n says that match rule n of the manifest matched
    pub rules: u64,
    pub operation: String,
    pub group: String,
    pub version: String,
    pub kind: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub user: String,
    pub user_uid: String,
    pub user_groups: Vec<String>,
    pub user_extra: BTreeMap<String, Vec<String>>,
    pub dry_run: bool,
    pub id: String,
    pub namespace_labels: BTreeMap<String, String>,
    /// JSON; "" is absent
    pub object: String,
    /// JSON; "" is absent
    pub old_object: String,
}

/// The creation of an object that matches rule 0.
impl Default for Request {
    fn default() -> Request {
        Request {
            rules: 1,
            operation: "CREATE".into(),
            group: String::new(),
            version: "v1".into(),
            kind: String::new(),
            resource: String::new(),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            user: String::new(),
            user_uid: String::new(),
            user_groups: Vec::new(),
            user_extra: BTreeMap::new(),
            dry_run: false,
            id: String::new(),
            namespace_labels: BTreeMap::new(),
            object: String::new(),
            old_object: String::new(),
        }
    }
}

/// What a hook decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// whether the request may go on
    pub allowed: bool,
    /// the HTTP status of a denial
    pub code: i32,
    /// the message of a denial
    pub message: String,
    /// warnings for the client
    pub warnings: Vec<String>,
    /// annotations of the audit event
    pub audit: BTreeMap<String, String>,
    /// changes, in order
    pub mutations: Vec<Mutation>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    /// set, remove or append
    pub op: &'static str,
    /// the path as the plugin registered it
    pub path: String,
    /// the position, for a path with [*]
    pub index: Option<usize>,
    /// the value, null for remove
    pub value: Text,
}

impl<T> Plugin<T> {
    /// What the host knows, to change or look at between hooks.
    pub fn world(&self) -> RefMut<'_, World> {
        RefMut::map(self.host.borrow_mut(), |h| &mut h.world)
    }

    fn run(&mut self, moment: Moment, hook: impl FnOnce(&mut Instance<T>) -> i32) -> Result<i32> {
        self.host.borrow_mut().enter(moment);
        let instance = &mut self.instance;
        let n = abi::with_host(self.host.clone(), || hook(instance));
        self.host.borrow_mut().leave(n)?;
        Ok(n)
    }

    fn admit(
        &mut self,
        request: &Request,
        mutating: bool,
        hook: impl FnOnce(&mut Instance<T>) -> i32,
    ) -> Result<Verdict> {
        let moment = Moment::Admission {
            request: Box::new(request.clone()),
            mutating,
        };
        let n = self.run(moment, hook)?;
        let mut verdict = std::mem::take(&mut self.host.borrow_mut().verdict);
        verdict.allowed = n == abi::ALLOW;
        match (verdict.allowed, verdict.code) {
            (true, _) => (verdict.code, verdict.message) = (0, String::new()),
            (false, 0) => verdict.code = 403,
            _ => {}
        }
        if !verdict.allowed {
            verdict.mutations.clear();
        }
        Ok(verdict)
    }

    fn decide<A: Field>(
        &mut self,
        request: &dyn ToJson,
        hook: impl FnOnce(&mut Instance<T>) -> i32,
    ) -> Result<Option<A>> {
        let mut input = String::new();
        request.write(&mut input);
        let n = self.run(Moment::Plan { input }, hook)?;
        if n == abi::NOT_MINE {
            return Ok(None);
        }
        let host = self.host.borrow();
        let output = host
            .output
            .as_ref()
            .ok_or("the plugin decided without a plan")?;
        Ok(Some(A::read(output.json())))
    }
}

impl<T: Mutate> Plugin<T> {
    /// Asks the hook mutate. An error is a fault of the plugin.
    pub fn mutate(&mut self, request: &Request) -> Result<Verdict> {
        let rules = request.rules;
        self.admit(request, true, |i| i.mutate(host::HANDLE, rules))
    }
}

impl<T: Validate> Plugin<T> {
    /// Asks the hook validate. An error is a fault of the plugin.
    pub fn validate(&mut self, request: &Request) -> Result<Verdict> {
        let rules = request.rules;
        self.admit(request, false, |i| i.validate(host::HANDLE, rules))
    }
}

impl<T: Deployer> Plugin<T> {
    /// Asks what a file holds; `None` when the plugin leaves it to the next.
    pub fn deploy(&mut self, request: &DeployRequest) -> Result<Option<DeployResult>> {
        self.decide(request, |i| i.deployer())
    }
}

impl<T: Cni> Plugin<T> {
    /// Asks for the network of a node.
    pub fn plan_network(&mut self, request: &CNIRequest) -> Result<Option<CNIPlan>> {
        self.decide(request, |i| i.cni())
    }
}

impl<T: Datastore> Plugin<T> {
    /// Asks for the datastore of a server.
    pub fn plan_datastore(&mut self, request: &DatastoreRequest) -> Result<Option<DatastorePlan>> {
        self.decide(request, |i| i.datastore())
    }
}
