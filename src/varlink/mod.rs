//! Varlink, synchronous and byte for byte as the peer speaks it.
//!
//! Own code, because the wire contract is the product: library candidates differ from the peer in
//! which error they name, which limits they keep and what they drop. One thread per connection,
//! no runtime. External document: UAPI.20 Varlink; where it and the peer differ, the peer wins.
//!
//! # Writing a service
//!
//! The interface is a `*.varlink` text beside the module that defines it. Handlers are functions
//! by method name; parameters have been checked against the text before a handler runs.
//!
//! ```
//! use serde_json::json;
//! use slipway::ctx::Ctx;
//! use slipway::varlink::server::{Answer, Service};
//!
//! const TEXT: &str = "interface io.example\n\nmethod Double(n: int) -> (twice: int)\n";
//!
//! let service = Service::builder(Ctx::host([]), "example")
//!     .interface(TEXT)?
//!     .method("Double", |call| Answer::reply(json!({ "twice": call.params().int("n")? * 2 })))
//!     .build()?;
//! # drop(service);
//! # Ok::<(), slipway::error::Error>(())
//! ```

pub mod activation;
pub mod address;
pub mod client;
pub mod errors;
pub mod idl;
pub mod message;
pub mod params;
pub mod policy;
pub mod server;
pub mod wire;
pub mod xattr;

use std::time::Duration;

/// LIMIT: bytes of input that may wait for their terminator; checked before each read.
pub const MAX_BUFFER: usize = 16 << 20;
/// Bytes asked for in one read.
pub const READ_SIZE: usize = 64 << 10;
/// LIMIT: descriptors that travel with one message; the kernel's own limit.
pub const MAX_FDS: usize = 253;
/// LIMIT: replies that [`client::Client::collect`] keeps.
pub const MAX_COLLECT: usize = 1024;
/// LIMIT: connections that a listening server keeps at a time.
pub const MAX_CONNECTIONS: usize = 4096;
/// LIMIT: connections of one user at a time.
pub const MAX_CONNECTIONS_PER_UID: usize = 128;
/// How long a client waits for a reply unless told otherwise.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(45);
