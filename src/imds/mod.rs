//! Instance metadata (IMDS): who a virtual machine is, as its cloud tells it.
//!
//! One path for everything: [`identity`] says which cloud this is, [`endpoint`] where its service
//! is, `fetch` asks it, `engine` adds cache and interfaces, and a [`Source`] hides from the rest
//! whether that runs in this process or behind the Varlink socket. On top of a source stand the
//! normalised values, the import and the metrics.
//!
//! External spec: systemd-imdsd(8), systemd-imds(1), systemd-imds-generator(8) of systemd 262, and
//! the documentation of each cloud (see `providers.hwdb`).

pub mod cache;
pub mod connect;
pub mod endpoint;
pub mod engine;
#[cfg(test)]
pub(crate) mod fake;
pub mod fetch;
pub mod generator;
pub mod identity;
pub mod import;
pub mod interfaces;
pub mod limit;
pub mod measure;
pub mod metrics;
pub mod model;
pub mod network;
pub mod normal;
pub mod providers;
pub mod service;
pub mod source;
pub mod summary;
pub mod userdata;

pub use connect::{ConnectOptions, connect};
pub use engine::{Engine, EngineOptions};
pub use model::{Endpoint, Failure, Reply, Request, WellKnown};
pub use source::Source;
