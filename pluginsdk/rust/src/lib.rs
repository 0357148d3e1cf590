//! The SDK for cleat plugins in Rust. README.md shows how to write, test and build one.
//!
//! | module | what it is for |
//! |---|---|
//! | [`admission`] | allow, deny or change a request to the API server |
//! | [`plan`] | the points deployer, cni and datastore |
//! | [`messages`] | what is said at those points |
//! | [`json`], [`value`] | the two forms of data |
//! | [`lookup`], [`state`], [`render`] | what the host does for a plugin that may ask |
//! | [`testing`] | a host for native tests |
//! | [`abi`] | the host functions as they are |

#![warn(missing_docs)]

// Its numbers, fields and limits have the names of the ABI.
#[allow(missing_docs)]
pub mod abi;
pub mod admission;
mod arena;
mod error;
mod host;
pub mod json;
pub mod lookup;
mod message;
#[allow(missing_docs)]
pub mod messages;
#[cfg(not(target_arch = "wasm32"))]
mod native;
pub mod plan;
#[doc(hidden)]
pub mod plugin;
pub mod render;
pub mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod value;

pub use abi::Errno;
pub use error::{Error, Result};
pub use host::{config, log, now, random, Level};
pub use plugin::{Plugin, Start};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
