//! Objects of the cluster: declared kinds only, from a cache that may lag behind by a moment.
//!
//! A plugin that uses it needs ABI 1.1, must declare the capability `cleat_lookup_v1` and lists the
//! kinds under `lookups` in its manifest. The number of an error is EIO while the cache is not
//! filled yet, and ENOTSUP where there is no cluster to ask.

use crate::abi;
use crate::host;
use crate::value::OwnedValue;
use crate::{Errno, Error, Result};

/// Returns the value at a field path of an object, null when it is absent there; a path with [*]
/// gives a list. The whole object, for the path "", is JSON. `None` says that there is no such
/// object. `kind` is `v1/Namespace` or `apps/v1/Deployment`; `namespace` is "" for an object of the
/// cluster.
pub fn get(kind: &str, namespace: &str, name: &str, path: &str) -> Result<Option<OwnedValue>> {
    let answer = host::fill(512, &|buf| {
        abi::lookup_get(
            kind.as_bytes(),
            namespace.as_bytes(),
            name.as_bytes(),
            path.as_bytes(),
            buf,
        )
    });
    match answer.and_then(OwnedValue::decode) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::host(errno, "look up", &[kind, " ", name].concat())),
    }
}

/// Returns a list with the value at a field path of every object of a kind, in the order of
/// namespace and name. `namespace` "" is all namespaces; `selector` is a label selector as kubectl
/// writes it, "" for all. More than 4096 objects are E2BIG.
pub fn list(kind: &str, namespace: &str, selector: &str, path: &str) -> Result<OwnedValue> {
    let answer = host::fill(4096, &|buf| {
        abi::lookup_list(
            kind.as_bytes(),
            namespace.as_bytes(),
            selector.as_bytes(),
            path.as_bytes(),
            buf,
        )
    });
    answer
        .and_then(OwnedValue::decode)
        .map_err(|errno| Error::host(errno, "look up all", kind))
}
