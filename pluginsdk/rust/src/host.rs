//! What every plugin may ask of the host.

use crate::abi::{self, limit};
use crate::arena::TRIES;
use crate::json::Text;
use crate::{Errno, Error, Result};

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// for whoever looks for a fault
    Debug = abi::LOG_DEBUG,
    /// what goes on
    Info = abi::LOG_INFO,
    /// what may go wrong
    Warn = abi::LOG_WARN,
    /// what went wrong
    Error = abi::LOG_ERROR,
}

/// Writes one line to the host's log, under the plugin's name.
pub fn log(level: Level, text: &str) {
    abi::log(level as i32, text.as_bytes());
}

/// Returns the plugin's configuration, an object. One whose manifest has a schema finds every key
/// that has a default.
pub fn config() -> Result<Text> {
    const WHAT: &str = "read the configuration";
    let text = fill(1024, &|buf| abi::config_get(buf)).map_err(|e| Error::host(e, WHAT, ""))?;
    let text = String::from_utf8(text).map_err(|_| Error::host(Errno::EIO, WHAT, ""))?;
    Text::parse(text).map_err(|e| e.within(WHAT))
}

/// Returns the time at which the running hook was entered, in nanoseconds since 1970 UTC. It does
/// not advance while the hook runs. It needs ABI 1.1.
pub fn now() -> i64 {
    abi::now()
}

/// Fills a buffer with random bytes. A decision that depends on them can still be replayed. It
/// needs ABI 1.1.
pub fn random(buf: &mut [u8]) -> Result<()> {
    for part in buf.chunks_mut(limit::RANDOM) {
        let n = abi::random(part);
        if n < 0 {
            return Err(Error::host(Errno(n), "random bytes", ""));
        }
    }
    Ok(())
}

/// Calls a host function that fills a buffer, with room for `least` bytes at first and more if it
/// asks for more.
pub(crate) fn fill(
    mut least: usize,
    call: &dyn Fn(&mut [u8]) -> i32,
) -> std::result::Result<Vec<u8>, Errno> {
    for _ in 0..TRIES {
        let mut buf = vec![0; least];
        let n = call(&mut buf);
        if n < 0 {
            return Err(Errno(n));
        }
        least = n as usize;
        if least <= buf.len() {
            buf.truncate(least);
            return Ok(buf);
        }
    }
    Err(Errno::EIO)
}
