//! A little that a plugin wants to remember: at most 256 keys, which every server shares. The last
//! of two writers at once wins.
//!
//! A plugin that uses it needs ABI 1.1 and must declare the capability `cleat_kv_v1`. There is no
//! state in [`Plugin::start`](crate::Plugin::start) and at the point datastore (ENOTSUP).

use crate::abi;
use crate::host;
use crate::{Errno, Error, Result};

/// Returns the value of a key, `None` when there is none. What the running hook has set shows.
pub fn get(key: &str) -> Result<Option<Vec<u8>>> {
    match host::fill(512, &|buf| abi::kv_get(key.as_bytes(), buf)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::host(errno, "state", key)),
    }
}

/// Records a value of at most 64 KiB; an empty one removes the key. The host stores it once the
/// hook has decided, and drops it when the hook fails or the request is a dry run. A key has 1 to
/// 253 bytes.
pub fn set(key: &str, value: &[u8]) -> Result<()> {
    match abi::kv_set(key.as_bytes(), value) {
        n if n < 0 => Err(Error::host(Errno(n), "set state", key)),
        _ => Ok(()),
    }
}
