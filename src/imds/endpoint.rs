//! Where the endpoint's configuration comes from.
//!
//! Command line, environment, kernel command line, credentials, detection: the first source that
//! sets anything wins and is not mixed with the others.
//!
//! External spec: systemd-imdsd(8) of systemd 262.

use super::model::Endpoint;
use super::providers;
use crate::ctx::Ctx;
use crate::error::Result;

/// What the options of `imdsd` gave, already checked; everything unset where there were none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The members that were given. Its traits are not looked at.
    pub endpoint: Endpoint,
}

impl Options {
    /// True where an option makes the command line the source. Addresses and keys alone do not.
    pub fn is_source(&self) -> bool {
        is_source(&self.endpoint)
    }
}

fn is_source(endpoint: &Endpoint) -> bool {
    endpoint.vendor.is_some()
        || endpoint.token_url.is_some()
        || endpoint.refresh_header_name.is_some()
        || endpoint.data_url.is_some()
        || endpoint.data_url_suffix.is_some()
        || endpoint.token_header_name.is_some()
        || !endpoint.extra_headers.is_empty()
}

/// The endpoint in use; `None` where nothing is configured and no cloud is recognised.
///
/// # Errors
/// A value in the environment is malformed; see also [`providers::lookup`].
pub fn resolve(ctx: &Ctx, options: &Options) -> Result<Option<Endpoint>> {
    if options.is_source() {
        let mut endpoint = options.endpoint.clone();
        providers::add_traits(&mut endpoint);
        return Ok(Some(endpoint));
    }
    providers::lookup(ctx)
}
