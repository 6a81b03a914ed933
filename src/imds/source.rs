//! Where metadata comes from: the service's socket, or the engine in this process.

use super::model::{Endpoint, Failure, Reply, Request};

/// Answers questions about this instance. One conversation: implementations keep connections,
/// tokens and the chosen interface between calls.
pub trait Source {
    /// The endpoint in use.
    ///
    /// # Errors
    /// [`Failure::NotSupported`] where there is none, and what connecting to a service can end in.
    fn endpoint(&mut self) -> Result<Endpoint, Failure>;

    /// The bytes of one key.
    ///
    /// # Errors
    /// Any [`Failure`].
    fn get(&mut self, request: &Request) -> Result<Reply, Failure>;
}
