//! The host's renderers. A plugin that uses them must declare the capability `cleat_render_v1`.
//!
//! When the text is malformed, the host knows where, and tells the operator if the handler returns
//! the error as it is.

use crate::abi;
use crate::host;
use crate::json::{Json, Text, ToJson};
use crate::message::Field;
use crate::messages::{HelmRequest, HelmResult, KustomizeRequest};
use crate::{Errno, Result};

/// Parses a stream of YAML or JSON documents and returns one value for each, null for an empty
/// one.
pub fn yaml(text: &str) -> Result<Vec<Text>> {
    render(2 * text.len() + 1024, text, &abi::render_yaml)
}

/// Renders the Helm chart that the running hook was asked about, or the archive that the request
/// carries. Templates see neither network nor cluster. It needs ABI 1.1; the number of the error is
/// ENOTSUP where there is no chart.
pub fn helm(request: &HelmRequest) -> Result<HelmResult> {
    render(64 << 10, &written(request), &abi::render_helm)
}

/// Builds the kustomization in the directory that the running hook was asked about, and returns its
/// objects. Otherwise it is as [`helm`].
pub fn kustomize(request: &KustomizeRequest) -> Result<Vec<Text>> {
    render(64 << 10, &written(request), &abi::render_kustomize)
}

fn written(request: &dyn ToJson) -> String {
    let mut text = String::new();
    request.write(&mut text);
    text
}

fn render<T: Field>(
    least: usize,
    text: &str,
    renderer: &dyn Fn(&[u8], &mut [u8]) -> i32,
) -> Result<T> {
    let answer = host::fill(least, &|buf| renderer(text.as_bytes(), buf))?;
    Ok(T::read(Json::from_bytes(&answer).map_err(|_| Errno::EIO)?))
}
