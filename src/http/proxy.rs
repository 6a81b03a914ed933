//! Proxies as libcurl finds them in the environment.

use ureq::Agent;
use ureq::config::Config;

use crate::ctx::Ctx;
use crate::error::Result;

use super::url::Url;

/// A way out that is not direct.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Proxy {
    url: String,
}

pub(super) fn from_env(_ctx: &Ctx, _url: &Url) -> Result<Option<Proxy>> {
    Ok(None)
}

pub(super) fn agent(config: Config, _proxy: Option<&Proxy>) -> Result<Agent> {
    Ok(Agent::new_with_config(config))
}
