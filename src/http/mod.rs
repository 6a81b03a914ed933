//! HTTP: URLs, dates, and the client of the updater.

#[cfg(feature = "update")]
mod body;
#[cfg(feature = "update")]
mod client;
pub mod date;
#[cfg(feature = "update")]
mod download;
#[cfg(feature = "update")]
mod exchange;
#[cfg(feature = "update")]
mod proxy;
#[cfg(feature = "update")]
mod retry;
#[cfg(feature = "tls")]
mod tls;
pub mod url;

#[cfg(feature = "update")]
pub use client::{Client, Options};
#[cfg(feature = "update")]
pub use download::{Download, Metadata, ResumePoint, Start};
