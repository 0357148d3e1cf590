use crate::admission::{Mutate, Path, Request, Validate};
use crate::json::{object, Text};
use crate::messages::{
    CNIPlan, CNIRequest, DatastorePlan, DatastoreRequest, DeployRequest, DeployResult, HelmRequest,
    HelmResult, KustomizeRequest,
};
use crate::plan::{Cni, Datastore, Deployer};
use crate::value::Value;
use crate::{config, log, lookup, now, random, render, state, testing};
use crate::{Errno, Error, Level, Plugin, Result, Start};

const MANIFEST: &str = r#"{
    "capabilities": ["cleat_core_v1", "cleat_object_v1", "cleat_object_json_v1", "cleat_request_v1",
        "cleat_render_v1", "cleat_lookup_v1", "cleat_kv_v1"],
    "config_schema": {
        "paths": {"type": "strings", "default": []},
        "fail": {"type": "string", "default": ""},
        "do": {"type": "string"}
    },
    "lookups": ["v1/Namespace", "v1/Secret"],
    "admission": {
        "read_paths": ["metadata.labels", "spec.containers[*]", "spec.replicas"],
        "write_paths": ["metadata.labels", "spec.containers[*]", "spec.list"]
    }
}"#;

/// A plugin that does what its configuration says.
struct Probe {
    paths: Vec<Path>,
    action: String,
}

impl Plugin for Probe {
    fn start(start: &Start) -> Result<Probe> {
        let config = config()?;
        match config.get("fail").text().as_deref() {
            None | Some("") => {}
            Some(why) => return Err(why.into()),
        }
        let paths = config.get("paths").strings();
        Ok(Probe {
            paths: paths.iter().map(|p| start.path(p)).collect::<Result<_>>()?,
            action: config.get("do").text().unwrap_or_default().into(),
        })
    }
}

impl Mutate for Probe {
    fn mutate(&self, r: &Request) -> Result<()> {
        match self.action.as_str() {
            "set" => {
                r.set(&self.paths[0], "text");
                r.set_at(&self.paths[1], 1, vec![Some(1), None]);
                r.set_at(&self.paths[1], 0, object(|o| o.put("a", true)));
                r.remove(&self.paths[0]);
                r.remove_at(&self.paths[1], 0);
                r.append(&self.paths[2], 0.5);
            }
            "outside" => r.set_at(&self.paths[1], 2, "x"),
            "deny" => {
                r.set(&self.paths[0], "text");
                r.deny_with(422, "no");
            }
            _ => {}
        }
        Ok(())
    }
}

impl Validate for Probe {
    fn validate(&self, r: &Request) -> Result<()> {
        match self.action.as_str() {
            "read" => {
                let read: Vec<String> = self
                    .paths
                    .iter()
                    .map(|p| format!("{:?}", r.get(p)))
                    .collect();
                r.deny(&read.join("; "));
            }
            "fields" => {
                let groups: Vec<&str> = r.user_groups().collect();
                let extra: Vec<&str> = r.user_extra("scope").unwrap().collect();
                assert!(r.user_extra("none").is_none() && r.namespace_label("none").is_none());
                assert!(r.rule(1) && r.rule(63) && !r.rule(0) && !r.rule(64));
                r.deny(&format!(
                    "{} {}/{} {} {}/{} {}/{} {} {} {} {} {groups:?} {extra:?} {:?} {}",
                    r.operation(),
                    r.group(),
                    r.version(),
                    r.kind(),
                    r.resource(),
                    r.subresource(),
                    r.namespace(),
                    r.name(),
                    r.user(),
                    r.user_uid(),
                    r.dry_run(),
                    r.id(),
                    r.namespace_label("team"),
                    r.object().get("kind"),
                ));
                assert!(r.old_object().is_null());
            }
            "many" => (0..limit_of_warnings() + 1).for_each(|_| r.warn("w")),
            "set" => {
                r.set(&self.paths[0], "x");
                r.deny("a denial does not hide a fault");
                return Err("nor does another error".into());
            }
            "fail" => return Err("spec: 1 is wrong; use 2".into()),
            "errno" => return Err(Errno::EIO.into()),
            "world" => {
                let mut bytes = [0; 3];
                random(&mut bytes)?;
                log(Level::Info, &format!("{} {:?}", now(), bytes));
                let count = state::get("count")?.map_or(0, |n| n[0]);
                state::set("count", &[count + 1])?;
                assert_eq!(state::get("count")?, Some(vec![count + 1]));
                state::set("gone", b"")?;
            }
            "lookup" => {
                let label = lookup::get("v1/Namespace", "", "a", "metadata.labels.team")?.unwrap();
                assert_eq!(label.value(), Value::Text("red"));
                assert_eq!(lookup::get("v1/Namespace", "", "c", "")?, None);
                let all = lookup::list("v1/Namespace", "", "", "metadata.name")?;
                let names: Vec<_> = all.value().list().filter_map(Value::text).collect();
                let red = lookup::list("v1/Namespace", "", "team=red", "")?;
                let red: Vec<_> = red
                    .value()
                    .list()
                    .map(|v| v.json().unwrap().to_string())
                    .collect();
                r.deny(&format!("{names:?} {red:?}"));
            }
            "pods" => drop(lookup::get("v1/Pod", "x", "a", "")?),
            _ => {}
        }
        Ok(())
    }
}

fn limit_of_warnings() -> usize {
    crate::abi::limit::WARNINGS
}

impl Deployer for Probe {
    fn render(&self, request: DeployRequest) -> Result<Option<DeployResult>> {
        if request.content.is_empty() {
            return Ok(None);
        }
        let objects = match request.kind.as_str() {
            "archive" => {
                let result = render::helm(&HelmRequest {
                    release: request.addon,
                    ..Default::default()
                })?;
                assert_eq!(result.version, "1");
                result.objects
            }
            "directory" => render::kustomize(&KustomizeRequest {
                path: "base".into(),
            })?,
            _ => render::yaml(&request.content)?,
        };
        Ok(Some(DeployResult {
            objects,
            warnings: vec![request.file],
        }))
    }
}

impl Cni for Probe {
    fn plan(&self, request: CNIRequest) -> Result<Option<CNIPlan>> {
        let mtu = request.node.mtu - 50;
        Ok(Some(CNIPlan {
            driver: "none".into(),
            mtu,
            ..Default::default()
        }))
    }
}

impl Datastore for Probe {
    fn plan(&self, request: DatastoreRequest) -> Result<Option<DatastorePlan>> {
        Err(format!("endpoint: {:?} is unknown; use etcd://", request.endpoint).into())
    }
}

crate::manifest!("tests.rs");
crate::plugin!(Probe: mutate, validate, deployer, cni, datastore);

fn start(config: &str) -> testing::Plugin<Probe> {
    testing::start(MANIFEST, config).unwrap()
}

fn pod() -> testing::Request {
    let object = r#"{"kind":"Pod","metadata":{"labels":{"a":"b"}},
        "spec":{"replicas":3,"containers":[{"image":"x"},{"image":["y",null]}]}}"#;
    testing::Request {
        object: object.into(),
        ..Default::default()
    }
}

#[test]
fn starts() {
    let why = |config: &str| {
        testing::start::<Probe>(MANIFEST, config)
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(
        why(r#"{"fail":"a: is 1; use 2"}"#).to_string(),
        "a: is 1; use 2"
    );
    assert_eq!(why(r#"{"fail":"x"}"#).errno(), Errno::EINVAL);
    assert_eq!(
        why(r#"{"other":1}"#).to_string(),
        "config other: the manifest has no such key"
    );
    let e = why(r#"{"paths":["spec.hostNetwork"]}"#);
    assert_eq!(
        (e.errno(), e.to_string().as_str()),
        (
            Errno::EACCES,
            "field path spec.hostNetwork: not declared in the manifest or not granted by the lock \
             (EACCES); list it under read_paths or write_paths of the manifest"
        )
    );
    assert_eq!(
        why(r#"{"paths":["spec."]}"#).to_string(),
        "field path \"spec.\" is malformed"
    );
}

#[test]
fn values_are_read() {
    let mut p = start(
        r#"{"do":"read","paths":["metadata.labels","spec.containers[*].image","spec.replicas",
            "metadata.labels.none"]}"#,
    );
    let v = p.validate(&pod()).unwrap();
    assert_eq!((v.allowed, v.code), (false, 403));
    assert!(
        v.message
            .starts_with(r#"Json("{\"a\":\"b\"}"); List(List { count: 2, "#),
        "{}",
        v.message
    );
    assert!(v.message.ends_with("; Int(3); Null"), "{}", v.message);
    let v = p.validate(&testing::Request::default()).unwrap();
    assert_eq!(
        v.message,
        "Null; List(List { count: 0, rest: [] }); Null; Null"
    );
}

#[test]
fn fields_are_read() {
    let mut p = start(r#"{"do":"fields"}"#);
    let v = p.validate(&testing::Request {
        rules: 1 << 63 | 2,
        operation: "UPDATE".into(),
        group: "apps".into(),
        kind: "Pod".into(),
        resource: "pods".into(),
        subresource: "status".into(),
        namespace: "n".into(),
        name: "x".repeat(300), // over what is tried first
        user: "u".into(),
        user_uid: "7".into(),
        user_groups: vec!["g".into(), "h".into()],
        user_extra: [("scope".into(), vec!["s".into()])].into(),
        dry_run: true,
        id: "r1".into(),
        namespace_labels: [("team".into(), "red".into())].into(),
        ..pod()
    });
    let name = "x".repeat(300);
    let want = format!(
        "UPDATE apps/v1 Pod pods/status n/{name} u 7 true r1 [\"g\", \"h\"] [\"s\"] \
         Some(\"red\") \"Pod\""
    );
    assert_eq!(v.unwrap().message, want);
}

#[test]
fn changes_are_recorded() {
    const PATHS: &str = r#""paths":["metadata.labels.a","spec.containers[*].image","spec.list"]"#;
    let config = |action: &str| format!(r#"{{"do":"{action}",{PATHS}}}"#);
    let v = start(&config("set")).mutate(&pod()).unwrap();
    let made: Vec<String> = v
        .mutations
        .iter()
        .map(|m| format!("{} {} {:?} {}", m.op, m.path, m.index, m.value))
        .collect();
    assert!(v.allowed);
    assert_eq!(
        made,
        [
            "set metadata.labels.a None \"text\"",
            "set spec.containers[*].image Some(1) [1,null]",
            "set spec.containers[*].image Some(0) {\"a\":true}",
            "remove metadata.labels.a None null",
            "remove spec.containers[*].image Some(0) null",
            "append spec.list None 0.5",
        ]
    );

    let e = start(&config("outside")).mutate(&pod()).unwrap_err();
    assert_eq!(
        (e.errno(), e.to_string().as_str()),
        (
            Errno::ENOENT,
            "set spec.containers[*].image: no such entry (ENOENT)"
        )
    );

    let v = start(&config("deny")).mutate(&pod()).unwrap();
    assert_eq!(
        (v.allowed, v.code, v.message.as_str(), v.mutations.len()),
        (false, 422, "no", 0)
    );
}

#[test]
fn the_first_failure_counts() {
    let e = start(r#"{"do":"set","paths":["metadata.labels.a"]}"#)
        .validate(&pod())
        .unwrap_err();
    assert_eq!(
        (e.errno(), e.to_string().as_str()),
        (
            Errno::ENOTSUP,
            "set metadata.labels.a: not supported here (ENOTSUP)"
        )
    );
    let e = start(r#"{"do":"many"}"#).validate(&pod()).unwrap_err();
    assert_eq!(
        (e.errno(), e.to_string().as_str()),
        (Errno::E2BIG, "warn: over a limit (E2BIG)")
    );
    let e = start(r#"{"do":"fail"}"#).validate(&pod()).unwrap_err();
    assert_eq!(
        (e.errno(), e.to_string().as_str()),
        (Errno::EINVAL, "spec: 1 is wrong; use 2")
    );
    let e = start(r#"{"do":"errno"}"#).validate(&pod()).unwrap_err();
    assert_eq!(e, Error::from(Errno::EIO));
}

#[test]
fn undeclared_capabilities_are_refused() {
    let manifest = MANIFEST.replace(r#""cleat_request_v1","#, "");
    let mut p: testing::Plugin<Probe> = testing::start(&manifest, r#"{"do":"many"}"#).unwrap();
    assert_eq!(p.validate(&pod()).unwrap_err().errno(), Errno::EACCES);
}

#[test]
fn state_and_facts() {
    let mut p = start(r#"{"do":"world"}"#);
    p.world().now = 1_700_000_000_000_000_000;
    p.world().random = vec![1, 2];
    p.world().state.insert("gone".into(), b"x".to_vec());
    p.validate(&pod()).unwrap();
    p.validate(&testing::Request {
        dry_run: true,
        ..pod()
    })
    .unwrap();
    assert_eq!(p.world().state, [("count".into(), vec![1])].into());
    assert_eq!(p.world().logs[0], "1700000000000000000 [1, 2, 1]");
    p.world().cluster_errno = Some(Errno::EIO);
    let e = p.validate(&pod()).unwrap_err();
    assert_eq!(
        (e.errno(), e.to_string().as_str()),
        (Errno::EIO, "state count: host failure (EIO)")
    );
}

#[test]
fn lookups() {
    let mut p = start(r#"{"do":"lookup"}"#);
    for text in [
        r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"b"}}"#,
        r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"labels":{"team":"red"},"name":"a"}}"#,
        r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"a"}}"#,
    ] {
        p.world().objects.push(Text::parse(text).unwrap());
    }
    let v = p.validate(&pod()).unwrap();
    assert_eq!(
        v.message,
        format!(r#"["a", "b"] {:?}"#, [p.world().objects[1].to_string()])
    );
    let e = start(r#"{"do":"pods"}"#).validate(&pod()).unwrap_err();
    assert_eq!(e.errno(), Errno::EACCES);
    assert!(
        e.to_string().starts_with("look up v1/Pod a: not declared"),
        "{}",
        e
    );
}

#[test]
fn plans() {
    let mut p = start("{}");
    assert_eq!(p.deploy(&DeployRequest::default()), Ok(None));
    let request = |kind: &str, content: &str| DeployRequest {
        file: "f".into(),
        kind: kind.into(),
        content: content.into(),
        ..Default::default()
    };
    let texts = |r: DeployResult| r.objects.iter().map(|o| o.to_string()).collect::<Vec<_>>();

    let result = p
        .deploy(&request("file", "{\"a\":1.0}\n---\n---\n[ ]\n"))
        .unwrap()
        .unwrap();
    assert_eq!(result.warnings, ["f"]);
    assert_eq!(texts(result), ["{\"a\":1.0}", "null", "[ ]"]);
    let e = p.deploy(&request("file", "a: [")).unwrap_err();
    assert!(
        e.errno() == Errno::EINVAL && e.to_string().starts_with("json: byte 0: want"),
        "{}",
        e
    );

    assert_eq!(
        p.deploy(&request("archive", "x")).unwrap_err(),
        Errno::ENOTSUP.into()
    );
    p.world().render_helm = Some(Box::new(|q| {
        assert_eq!((q.release.as_str(), q.archive.as_str()), ("", ""));
        Ok(HelmResult {
            version: "1".into(),
            objects: vec![Text::parse("{\"chart\":true}").unwrap()],
            ..Default::default()
        })
    }));
    let result = p.deploy(&request("archive", "x")).unwrap().unwrap();
    assert_eq!(texts(result), ["{\"chart\":true}"]);
    p.world().render_kustomize = Some(Box::new(|q| Err(format!("{}: no kustomization", q.path))));
    let e = p.deploy(&request("directory", "x")).unwrap_err();
    assert_eq!(e, Error::new("base: no kustomization"));

    let mut request = CNIRequest::default();
    request.node.mtu = 1500;
    let plan = p.plan_network(&request).unwrap().unwrap();
    assert_eq!(
        (plan.driver.as_str(), plan.mtu, plan.flannel),
        ("none", 1450, None)
    );
    let e = p.plan_datastore(&DatastoreRequest::default()).unwrap_err();
    assert_eq!(e.to_string(), "endpoint: \"\" is unknown; use etcd://");
}

#[test]
fn messages_as_json() {
    use crate::json::{Json, ToJson};
    use crate::message::Field;
    let written = |m: &dyn ToJson| {
        let mut out = String::new();
        m.write(&mut out);
        out
    };
    assert_eq!(written(&DeployResult::default()), r#"{"objects":[]}"#);
    let text = concat!(
        r#"{"driver":"flannel","description":"d","conflist":{"plugins":[]},"flannel":"#,
        r#"{"backend":"vxlan","network":"10.42.0.0/16","vni":1,"nftables":true,"#,
        r#""masquerade":false},"sysctls":{"a":"1","b":"2"}}"#
    );
    let plan = CNIPlan::read(Json::parse(text).unwrap());
    assert_eq!(plan.flannel.as_ref().unwrap().vni, 1);
    assert_eq!(written(&plan), text);
    // A newer host sends more, and what is of another type counts as absent.
    let request = DeployRequest::read(
        Json::parse(r#"{"file":1,"addon":"a","new":{},"variables":[]}"#).unwrap(),
    );
    assert_eq!(
        request,
        DeployRequest {
            addon: "a".into(),
            ..Default::default()
        }
    );
}
