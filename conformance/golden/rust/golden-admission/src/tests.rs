use super::*;
use cleat::testing::{self, Mutation, Request};

fn start(config: &str) -> Result<testing::Plugin<Golden>> {
    testing::start(include_str!("../manifest.json"), config)
}

fn pod(object: &str) -> Request {
    Request {
        object: object.into(),
        ..Request::default()
    }
}

/// What is said about a pod with that image.
fn denial(config: &str, image: &str) -> String {
    let object = format!(r#"{{"spec":{{"containers":[{{"image":"{image}"}}]}}}}"#);
    let mut plugin = start(config).unwrap();
    plugin.validate(&pod(&object)).unwrap().message
}

#[test]
fn images() {
    for (image, wrong) in [
        ("registry.local/app:1.0", ""),
        ("registry.local/team/app@sha256:0123", ""),
        ("registry.local/app:latest@sha256:0123", ""),
        ("", "has no image; name one"),
        (
            "docker.io/app:1.0",
            "\"docker.io/app:1.0\" is not from an allowed registry; use one of registry.local",
        ),
        (
            "registry.local.example/app:1",
            "\"registry.local.example/app:1\" is not from an allowed registry; \
             use one of registry.local",
        ),
        (
            "registry.local/app",
            "\"registry.local/app\" has no tag; add one, such as :1.0",
        ),
        (
            "registry.local/app:latest",
            "\"registry.local/app:latest\" is tagged latest; name a version",
        ),
    ] {
        let message = denial("{}", image);
        let place = if wrong.is_empty() {
            ""
        } else {
            "spec.containers[0].image: "
        };
        assert_eq!(message, format!("{place}{wrong}"));
    }
}

#[test]
fn registries_of_the_configuration() {
    let config = r#"{"registries":["a.example","b.example:5000"]}"#;
    assert_eq!(denial(config, "b.example:5000/app:1"), "");
    assert_eq!(
        denial(config, "registry.local/app:1"),
        "spec.containers[0].image: \"registry.local/app:1\" is not from an allowed registry; \
         use one of a.example, b.example:5000"
    );
    let e = start(r#"{"registries":[]}"#).err().unwrap();
    assert_eq!(
        e.to_string(),
        "registries: is empty; name at least one registry"
    );
}

#[test]
fn init_containers_come_first() {
    let object = r#"{"spec":{"containers":[{"image":"bad/app"}],
        "initContainers":[{"image":"registry.local/init:1"},{}]}}"#;
    let verdict = start("{}").unwrap().validate(&pod(object)).unwrap();
    assert_eq!(
        verdict.message,
        "spec.initContainers[1].image: has no image; name one"
    );
    assert_eq!(verdict.code, 403);
}

#[test]
fn labels() {
    const WARNING: &str = "metadata.labels: has no label \"team\"; add one";
    for (config, object, warnings) in [
        ("{}", r#"{"metadata":{"labels":{"team":"red"}}}"#, vec![]),
        (
            "{}",
            r#"{"metadata":{"labels":{"app":"web"}}}"#,
            vec![WARNING],
        ),
        ("{}", "{}", vec![WARNING]),
        (r#"{"team_label":""}"#, "{}", vec![]),
    ] {
        let verdict = start(config).unwrap().validate(&pod(object)).unwrap();
        assert!(verdict.allowed);
        assert_eq!(verdict.warnings, warnings);
        assert_eq!(verdict.audit["images"], "0");
    }
}

#[test]
fn pods_are_marked() {
    let mut plugin = start("{}").unwrap();
    let verdict = plugin.mutate(&pod("{}")).unwrap();
    let Mutation {
        op, path, value, ..
    } = &verdict.mutations[0];
    assert_eq!(
        (*op, path.as_str(), value.to_string().as_str()),
        (
            "set",
            "metadata.labels['golden.cleat.dev/checked']",
            "\"true\""
        )
    );
    let marked = r#"{"metadata":{"labels":{"golden.cleat.dev/checked":""}}}"#;
    assert!(plugin.mutate(&pod(marked)).unwrap().mutations.is_empty());
}
