//! Values that mean the same on every cloud.
//!
//! The raw interface gives what the service says: a zone is `projects/1/zones/z` here and `z`
//! there, an SSH key ends in CRLF, a list of keys is YAML. Here a [recipe](recipe::Recipe) per
//! cloud and name says where the value is and how it is decoded; the recipes are data of the
//! provider table. Where there is none, the well-known key of that name is read and cleaned up.
//!
//! Empty answers count as absent. What a value must look like is checked, and a value that does
//! not is an error, not a value. A [`Normal`] is one conversation: no key is fetched twice.

mod check;
mod dump;
pub mod pointer;
pub mod recipe;
mod run;
mod ssh;
mod tree;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use self::check::Kind;
use self::recipe::{Recipe, Step};
use super::userdata::{self, NoUserData};
use super::{Endpoint, Failure, Reply, Request, Source, WellKnown, providers};
use crate::ctx::Ctx;

/// The names with one meaning, in the order in which they are shown. SSH keys, user data and
/// vendor data have functions of their own.
pub const NAMES: [&str; 11] = [
    "hostname",
    "instance-id",
    "instance-type",
    "region",
    "zone",
    "ipv4-local",
    "ipv6-local",
    "ipv4-public",
    "ipv6-public",
    "mac",
    "tags",
];

/// Names whose values are lists or bytes.
const MORE_NAMES: [&str; 4] = ["ssh-key", "ssh-keys", "userdata", "vendor-data"];

/// A conversation with a source that understands the answers.
pub struct Normal<'a> {
    ctx: &'a Ctx,
    source: &'a mut dyn Source,
    endpoint: Endpoint,
    /// What keys said; `None` where they are absent.
    memo: BTreeMap<String, Option<Rc<[u8]>>>,
    /// Why nothing is asked any more.
    dead: Option<Failure>,
    has_answer: bool,
}

impl<'a> Normal<'a> {
    /// Begins a conversation.
    ///
    /// # Errors
    /// [`Failure::NotSupported`] where there is no endpoint, and what the source fails with.
    pub fn new(ctx: &'a Ctx, source: &'a mut dyn Source) -> Result<Self, Failure> {
        let mut endpoint = source.endpoint()?;
        if ctx.is_strict_compat() {
            endpoint.traits.recipes.clear();
        } else {
            // A service tells the endpoint only, and the peer's with three clouds' keys wrong.
            providers::add_traits(&mut endpoint);
            providers::add_host_traits(ctx, &mut endpoint);
            providers::mend_keys(&mut endpoint);
        }
        Ok(Self { ctx, source, endpoint, memo: BTreeMap::new(), dead: None, has_answer: false })
    }

    /// The value of a name; lists line by line. `None` where the cloud has none.
    ///
    /// # Errors
    /// [`Failure::InvalidParameter`] for a name that nobody knows, [`Failure::System`] with
    /// `EBADMSG` for an answer that does not make sense and `EINVAL` for a bad recipe, and what
    /// the source fails with.
    pub fn value(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match Kind::of(name) {
            Kind::Bytes => match self.bytes(name)? {
                None => Ok(None),
                Some(bytes) => String::from_utf8(bytes)
                    .map(Some)
                    .map_err(|_| self.bad_message(name, "it is not text")),
            },
            Kind::Keys | Kind::Lines => {
                let lines = self.list(name)?;
                Ok((!lines.is_empty()).then(|| lines.join("\n")))
            }
            _ => Ok(self.list(name)?.into_iter().next()),
        }
    }

    /// All values of a name.
    ///
    /// # Errors
    /// As [`Normal::value`].
    pub fn list(&mut self, name: &str) -> Result<Vec<String>, Failure> {
        let Some(recipe) = self.recipe(name)? else { return Ok(Vec::new()) };
        let values = self.run(name, &recipe)?;
        let mut texts = Vec::with_capacity(values.len());
        for value in values {
            match String::from_utf8(value) {
                Ok(text) => texts.push(text),
                Err(_) => return Err(self.bad_message(name, "it is not text")),
            }
        }
        match Kind::of(name) {
            Kind::Keys => texts = ssh::keys(texts),
            Kind::Lines => {}
            _ => texts.dedup(),
        }
        // One key was asked for, and there is a recipe for all of them only.
        if name == "ssh-key" && !self.has_recipe(name) && self.has_recipe("ssh-keys") {
            texts.truncate(1);
        }
        Ok(texts)
    }

    /// A value that may be anything: `userdata`, `vendor-data`.
    ///
    /// # Errors
    /// As [`Normal::value`].
    pub fn bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        if name == "userdata" {
            return self.userdata();
        }
        let Some(recipe) = self.recipe(name)? else { return Ok(None) };
        Ok(self.run(name, &recipe)?.into_iter().next())
    }

    /// All SSH keys of the administrator, each once.
    ///
    /// # Errors
    /// As [`Normal::value`].
    pub fn ssh_keys(&mut self) -> Result<Vec<String>, Failure> {
        self.list("ssh-keys")
    }

    /// The user data, decoded: those that are meant for us, or else those that the recipe finds.
    ///
    /// # Errors
    /// As [`Normal::value`].
    pub fn userdata(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match userdata::fetch(self) {
            Ok(None) if self.has_recipe("userdata") => {}
            Ok(data) => return Ok(data),
            Err(NoUserData::Failed(failure)) => return Err(failure),
            Err(NoUserData::NotBase64) => return Err(self.bad_message("userdata", "not Base64")),
        }
        self.userdata_of_recipe()
    }

    fn userdata_of_recipe(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let Some(recipe) = self.recipe("userdata")? else { return Ok(None) };
        Ok(self.run("userdata", &recipe)?.into_iter().next())
    }

    /// True where keys for user data are not those that the provider has by default.
    fn has_own_userdata_keys(&self) -> bool {
        let row = self.endpoint.vendor.as_deref().and_then(providers::builtin);
        row.is_some_and(|row| {
            [WellKnown::Userdata, WellKnown::UserdataBase, WellKnown::UserdataBase64]
                .iter()
                .any(|name| row.well_known.get(name) != self.endpoint.well_known.get(name))
        })
    }

    /// Everything known, as one object; see the module `dump`.
    ///
    /// # Errors
    /// Where nothing at all could be had.
    pub fn dump(&mut self) -> Result<Value, Failure> {
        dump::dump(self)
    }

    fn has_recipe(&self, name: &str) -> bool {
        self.endpoint.traits.recipes.contains_key(name)
    }

    /// The recipe of a name, `None` where this cloud has no such value.
    fn recipe(&self, name: &str) -> Result<Option<Recipe>, Failure> {
        let recipes = &self.endpoint.traits.recipes;
        let text = match name {
            "ssh-key" => recipes.get(name).or_else(|| recipes.get("ssh-keys")),
            _ => recipes.get(name),
        };
        if let Some(text) = text {
            return Recipe::parse(text).map(Some).map_err(|bad| {
                let vendor = self.vendor();
                let text = format!("Recipe for '{name}' of provider '{vendor}' is wrong {bad}");
                Failure::System(libc_errno::EINVAL, text)
            });
        }
        Ok(match (name, WellKnown::parse(name)) {
            ("ssh-keys" | "ssh-key", _) => Some(Recipe::of(WellKnown::SshKey, vec![Step::Lines])),
            (_, Some(WellKnown::Base | WellKnown::UserdataBase)) => {
                return Err(Failure::InvalidParameter("name".into()));
            }
            (_, Some(WellKnown::UserdataBase64)) => {
                Some(Recipe::of(WellKnown::UserdataBase64, vec![Step::Base64]))
            }
            (_, Some(known)) => Some(Recipe::of(known, Vec::new())),
            _ if NAMES.contains(&name) || MORE_NAMES.contains(&name) => None,
            _ => return Err(Failure::InvalidParameter("name".into())),
        })
    }

    fn vendor(&self) -> &str {
        self.endpoint.vendor.as_deref().unwrap_or("unknown")
    }

    fn bad_message(&self, name: &str, what: &str) -> Failure {
        let vendor = self.vendor();
        let text = format!("Value '{name}' of provider '{vendor}' makes no sense: {what}");
        Failure::System(libc_errno::EBADMSG, text)
    }
}

/// A conversation is a source too, which knows what was asked before.
impl Source for Normal<'_> {
    fn endpoint(&mut self) -> Result<Endpoint, Failure> {
        Ok(self.endpoint.clone())
    }

    fn get(&mut self, request: &Request) -> Result<Reply, Failure> {
        let known = match &request.well_known {
            None => "",
            Some(known) => self.endpoint.well_known.get(known).ok_or(Failure::WellKnownKeyUnset)?,
        };
        let key = format!("{known}{}", request.key.as_deref().unwrap_or_default());
        match self.body(&key)? {
            Some(body) => Ok(Reply { data: body.to_vec(), interface: None }),
            None => Err(Failure::KeyNotFound),
        }
    }
}

/// Errno values that scripts see.
mod libc_errno {
    pub(super) const EINVAL: i32 = 22;
    pub(super) const EFBIG: i32 = 27;
    pub(super) const EBADMSG: i32 = 74;
}

/// One value; see [`Normal::value`].
///
/// # Errors
/// As [`Normal::value`].
pub fn value(ctx: &Ctx, source: &mut dyn Source, name: &str) -> Result<Option<String>, Failure> {
    Normal::new(ctx, source)?.value(name)
}

/// All SSH keys; see [`Normal::ssh_keys`].
///
/// # Errors
/// As [`Normal::value`].
pub fn ssh_keys(ctx: &Ctx, source: &mut dyn Source) -> Result<Vec<String>, Failure> {
    Normal::new(ctx, source)?.ssh_keys()
}

/// The user data; see [`Normal::userdata`].
///
/// # Errors
/// As [`Normal::value`].
pub fn userdata(ctx: &Ctx, source: &mut dyn Source) -> Result<Option<Vec<u8>>, Failure> {
    Normal::new(ctx, source)?.userdata()
}

/// The user data as the peer finds them, or else where the recipe of the provider says. Where keys
/// for them were configured by hand, what those hold.
///
/// DIFFERS: the peer asks the well-known keys only, and Google's users know another one.
///
/// # Errors
/// A failure that does not mean "absent".
pub fn find_userdata(ctx: &Ctx, source: &mut dyn Source) -> Result<Option<Vec<u8>>, NoUserData> {
    let found = userdata::fetch(source)?;
    if found.is_some() || ctx.is_strict_compat() {
        return Ok(found);
    }
    let mut elsewhere = || {
        let mut normal = Normal::new(ctx, source)?;
        match normal.has_recipe("userdata") && !normal.has_own_userdata_keys() {
            true => normal.userdata_of_recipe(),
            false => Ok(None),
        }
    };
    elsewhere().map_err(NoUserData::Failed)
}

/// Everything known; see [`Normal::dump`].
///
/// # Errors
/// Where nothing at all could be had.
pub fn dump(ctx: &Ctx, source: &mut dyn Source) -> Result<Value, Failure> {
    Normal::new(ctx, source)?.dump()
}
