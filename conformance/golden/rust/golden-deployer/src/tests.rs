use super::*;
use cleat::testing;
use cleat::Errno;

fn deploy(file: &str, content: &str) -> Result<Option<DeployResult>> {
    let manifest = include_str!("../manifest.json");
    let mut plugin: testing::Plugin<Golden> = testing::start(manifest, "{}")?;
    plugin.deploy(&DeployRequest {
        file: file.into(),
        content: content.into(),
        ..Default::default()
    })
}

#[test]
fn other_files_are_left_alone() {
    assert_eq!(deploy("app.yaml", "{}"), Ok(None));
    assert_eq!(deploy("golden.yaml", "{}"), Ok(None));
}

#[test]
fn documents_are_kept_in_order() {
    let result = deploy("app.golden.yaml", "{\"b\":1}\n---\nnull\n---\n{\"a\":2}")
        .unwrap()
        .unwrap();
    let objects: Vec<String> = result.objects.iter().map(|o| o.to_string()).collect();
    assert_eq!(objects, ["{\"b\":1}", "{\"a\":2}"]);
    assert!(result.warnings.is_empty());
}

#[test]
fn nothing_is_a_warning() {
    let result = deploy("app.golden.yaml", "").unwrap().unwrap();
    assert!(result.objects.is_empty());
    assert_eq!(result.warnings, ["app.golden.yaml: has no objects"]);
}

#[test]
fn malformed_text_is_the_host_s_to_explain() {
    let e = deploy("app.golden.yaml", "{").unwrap_err();
    assert_eq!(e.errno(), Errno::EINVAL);
    assert!(e.to_string().starts_with("json: byte 1"), "{e}");
}
