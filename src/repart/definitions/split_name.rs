//! `SplitName=`: the specifiers that are known only when the partition is.

use uuid::Uuid;

use crate::conf::specifier::{self, ExpandError};
use crate::ctx::Ctx;
use crate::format::gpt::types;

/// What a partition's split file is called by.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Type.
    pub type_uuid: Uuid,
    /// UUID.
    pub uuid: Uuid,
    /// Number, from 1.
    pub number: u32,
}

/// The pattern with `%T` (type UUID), `%t` (type name), `%U` (UUID), `%n` (number from 0) and all
/// the specifiers that are good everywhere replaced.
///
/// # Errors
/// A specifier does not exist or has no value.
pub fn expand(ctx: &Ctx, pattern: &str, identity: &Identity) -> Result<String, ExpandError> {
    let plain = |uuid: Uuid| uuid.simple().to_string();
    let own = |letter: char| {
        Some(match letter {
            'T' => plain(identity.type_uuid),
            't' => {
                types::name(identity.type_uuid).unwrap_or_else(|| identity.type_uuid.to_string())
            }
            'U' => plain(identity.uuid),
            'n' => identity.number.saturating_sub(1).to_string(),
            _ => return None,
        })
    };
    specifier::expand_with(ctx, pattern, specifier::NAME_MAX, &own)
}
