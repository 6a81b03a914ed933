//! All definitions together: Verity sets and supplements.

use super::check::role_name;
use crate::error::{Error, Result};
use crate::repart::model::{CopyBlocks, Definition, Minimize, Verity, VerityRole};

const ROLES: [VerityRole; 3] = [VerityRole::Data, VerityRole::Hash, VerityRole::Signature];

/// Refuses definitions that contradict each other, in the peer's order.
///
/// # Errors
/// They do.
pub(super) fn check(definitions: &[Definition]) -> Result<()> {
    for definition in definitions {
        if let Some(verity) = &definition.verity {
            check_set(definitions, definition, verity)?;
        }
    }
    for definition in definitions {
        if let Some(verity) = &definition.verity {
            check_sources(definitions, definition, verity)?;
        }
    }
    for (at, definition) in definitions.iter().enumerate() {
        if let Some(target) = &definition.supplement_for {
            check_supplement(definitions, at, definition, target)?;
        }
    }
    Ok(())
}

fn refusal(definition: &Definition, text: String) -> Error {
    Error::new(text).at(definition.path(), 1).with_errno(22)
}

fn members<'a>(
    definitions: &'a [Definition],
    key: &'a str,
    role: VerityRole,
) -> impl Iterator<Item = &'a Definition> {
    definitions.iter().filter(move |other| {
        other.verity.as_ref().is_some_and(|verity| verity.role == role && verity.key == key)
    })
}

/// One of each other role, the signature being optional, and all of the same priority.
fn check_set(definitions: &[Definition], definition: &Definition, verity: &Verity) -> Result<()> {
    let key = &verity.key;
    for role in ROLES.into_iter().filter(|role| *role != verity.role) {
        let fault = |what: &str, s: &str, verb: &str| {
            let (role, own) = (role_name(role), role_name(verity.role));
            let text = format!(
                "{what} verity {role} partition{s}{verb} for verity {own} partition with \
                 VerityMatchKey={key}."
            );
            Err(refusal(definition, text))
        };
        let mut found = members(definitions, key, role);
        let Some(other) = found.next() else {
            if role == VerityRole::Signature {
                continue;
            }
            return fault("Missing", "", "");
        };
        if found.next().is_some() {
            return fault("Multiple", "s", " found");
        }
        if other.priority != definition.priority {
            let text = format!(
                "Priority mismatch ({} != {}) for verity sibling partitions with \
                 VerityMatchKey={key}.",
                definition.priority, other.priority
            );
            return Err(refusal(definition, text));
        }
    }
    Ok(())
}

/// A hash tree or signature is copied only if what it is for is copied the same way.
fn check_sources(
    definitions: &[Definition],
    definition: &Definition,
    verity: &Verity,
) -> Result<()> {
    let own = role_name(verity.role);
    let is_auto =
        |definition: &Definition| matches!(definition.copy_blocks, Some(CopyBlocks::Auto));
    let is_path =
        |definition: &Definition| definition.copy_blocks.is_some() && !is_auto(definition);
    for role in ROLES.into_iter().take_while(|role| *role != verity.role) {
        let Some(lower) = members(definitions, &verity.key, role).next() else { continue };
        let value = if is_auto(definition) && !is_auto(lower) {
            "auto"
        } else if is_path(definition) && !is_path(lower) {
            ""
        } else {
            continue;
        };
        let text = format!(
            "CopyBlocks={value} set with Verity={own} but Verity={} partition does not set \
             CopyBlocks={value}.",
            role_name(role)
        );
        return Err(refusal(definition, text));
    }
    if verity.role == VerityRole::Hash
        && definition.minimize != Minimize::Off
        && let Some(data) = members(definitions, &verity.key, VerityRole::Data).next()
    {
        if data.minimize == Minimize::Off && data.copy_blocks.is_none() {
            let text = "Minimize= set for verity hash partition but data partition does not set \
                        CopyBlocks= or Minimize=.";
            return Err(refusal(definition, text.to_owned()));
        }
        if data.encrypt.is_some() {
            let text = "Minimize= cannot be set for verity hash partitions whose data partition \
                        is encrypted, use SizeMaxBytes= on the data partition instead.";
            return Err(refusal(definition, text.to_owned()));
        }
    }
    Ok(())
}

fn check_supplement(
    definitions: &[Definition],
    at: usize,
    definition: &Definition,
    name: &str,
) -> Result<()> {
    let refuse = |text: String| Err(refusal(definition, text));
    let named = definitions.iter().enumerate().find(|(other, it)| *other != at && it.name == name);
    let Some((_, target)) = named else {
        return refuse(format!("Couldn't find target partition for SupplementFor={name}"));
    };
    if target.copy_blocks.is_some() || target.encrypt.is_some() || target.verity.is_some() {
        return refuse("SupplementFor= target uses CopyBlocks=/Encrypt=/Verity=".to_owned());
    }
    if target.supplement_for.is_some() {
        return refuse("SupplementFor= target is itself configured as a supplement.".to_owned());
    }
    let earlier = definitions.iter().take(at);
    if let Some(other) =
        earlier.into_iter().find(|other| other.supplement_for.as_deref() == Some(name))
    {
        return refuse(format!(
            "SupplementFor= target already has a supplement defined: {}",
            other.path().display()
        ));
    }
    for (what, own, its) in [
        ("Size", &definition.size, &target.size),
        ("Padding", &definition.padding, &target.padding),
    ] {
        let min = own.min.max(its.min);
        let max = [own.max, its.max].into_iter().flatten().min();
        if matches!((min, max), (Some(min), Some(max)) if min > max) {
            return refuse(format!(
                "{what}MinBytes= larger than {what}MaxBytes= when merged with SupplementFor= \
                 target."
            ));
        }
    }
    Ok(())
}
