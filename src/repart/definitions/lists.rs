//! Keys that collect: files, directories, links, subvolumes, mount points.

use std::path::PathBuf;

use super::file::Draft;
use super::values::{expanded, is_file_name, path};
use crate::conf::ini::Line;
use crate::conf::words::{Escapes, Fields, Words};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::repart::model::{CopyFiles, EncryptedVolume, MountPoint, Subvolume};

/// LIMIT: bytes of a device mapper name.
pub(super) const VOLUME_NAME_MAX: usize = 127;

/// Calls `each` for every word. What is behind a word that is none is lost.
fn words(l: &Line<'_>, mut each: impl FnMut(&str)) {
    for word in Words::new(l.value, Escapes::Plain) {
        match word {
            Ok(word) => each(&word),
            Err(_) => l.warn(format_args!("Invalid syntax, ignoring: {}", l.value)),
        }
    }
}

pub(super) fn copy_files(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    let mut fields = Fields::plain(l.value, ':', Some(Escapes::C));
    let mut next = |what: &str| {
        let field = fields.next().transpose();
        let field = field.map_err(|_| l.error(format!("Failed to extract {what}: {}", l.value)))?;
        Ok::<_, crate::error::Error>(field)
    };
    let source = next("source path")?.unwrap_or_default();
    let target = next("target path")?;
    let options = next("options")?;
    if fields.rest().is_some_and(|rest| !rest.is_empty()) {
        return Err(l.error(format!("Too many arguments: {}", l.value)));
    }
    let mut copies_fsverity = false;
    for option in Fields::plain(options.as_deref().unwrap_or_default(), ',', None).flatten() {
        match option.as_str() {
            "" => {}
            "fsverity=copy" => copies_fsverity = true,
            "fsverity=off" => copies_fsverity = false,
            other if other.starts_with("fsverity=") => {
                l.warn("fsverity= expects either 'off' or 'copy'.");
            }
            other => l.warn(format_args!("Encountered unknown option '{other}', ignoring.")),
        }
    }
    let Some(source) =
        expanded(d.ctx, l, &source, "CopyFiles= source", l.value).and_then(|text| path(l, &text))
    else {
        return Ok(());
    };
    let target = match target {
        // DIFFERS: the peer shows "(null)" where we show the target.
        Some(target) => expanded(d.ctx, l, &target, "CopyFiles= target", &target)
            .and_then(|text| path(l, &text)),
        None => Some(source.clone()),
    };
    if let Some(target) = target {
        d.definition.files.copy.push(CopyFiles {
            source: source.into(),
            target: target.into(),
            copies_fsverity,
        });
    }
    Ok(())
}

/// Paths that keep the slash at their end. Nothing takes all back; the first bad one ends the line.
pub(super) fn exclude(ctx: &Ctx, list: &mut Vec<String>, l: &Line<'_>) -> Result<()> {
    if l.value.is_empty() {
        list.clear();
        return Ok(());
    }
    for word in Words::new(l.value, Escapes::Plain) {
        let Ok(word) = word else {
            // COMPAT(262): what could not be read is not shown.
            l.warn("Invalid syntax, ignoring: ");
            return Ok(());
        };
        let Some(word) = expanded(ctx, l, &word, &format!("{} path", l.key), &word) else {
            return Ok(());
        };
        let Some(mut found) = path(l, &word) else { return Ok(()) };
        if word.ends_with('/') && found != "/" {
            found.push('/');
        }
        list.push(found);
    }
    Ok(())
}

pub(super) fn make_directories(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    words(l, |word| {
        let found = expanded(d.ctx, l, word, "MakeDirectories= parameter", word)
            .and_then(|text| path(l, &text));
        d.definition.files.make_directories.extend(found.map(PathBuf::from));
    });
    Ok(())
}

pub(super) fn make_symlinks(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    words(l, |word| {
        let mut fields = Fields::quoted(word, ':', Escapes::Plain);
        let (Some(Ok(link)), Some(Ok(target))) = (fields.next(), fields.next()) else {
            l.warn(format_args!("Missing source or target in {word}, ignoring"));
            return;
        };
        let Some(link) = expanded(d.ctx, l, &link, "MakeSymlinks= source", &link)
            .and_then(|text| path(l, &text))
        else {
            return;
        };
        if let Some(target) = expanded(d.ctx, l, &target, "MakeSymlinks= target", &target) {
            d.definition.files.make_symlinks.push((link.into(), target.into()));
        }
    });
    Ok(())
}

pub(super) fn subvolumes(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    words(l, |word| {
        let mut fields = Fields::quoted(word, ':', Escapes::Plain);
        let (Some(Ok(place)), flags) = (fields.next(), fields.next()) else { return };
        let Some(place) = expanded(d.ctx, l, &place, "Subvolumes= parameter", &place)
            .and_then(|text| path(l, &text))
        else {
            return;
        };
        let mut subvolume =
            Subvolume { path: place.into(), is_read_only: false, is_no_data_cow: false };
        if let Some(Ok(flags)) = flags {
            let known = |flag: &str| matches!(flag, "ro" | "nodatacow");
            if flags.split(',').all(known) {
                subvolume.is_read_only = flags.split(',').any(|flag| flag == "ro");
                subvolume.is_no_data_cow = flags.split(',').any(|flag| flag == "nodatacow");
            } else {
                l.warn(format_args!("Unknown subvolume flag in subvolume, ignoring: {flags}"));
            }
        }
        // The last word on a path counts.
        let all = &mut d.definition.subvolumes;
        match all.iter_mut().find(|other| other.path == subvolume.path) {
            Some(other) => *other = subvolume,
            None => all.push(subvolume),
        }
    });
    Ok(())
}

/// At most `MAX` fields; none, with a warning, if there are more or they cannot be read.
fn quoted_fields<const MAX: usize>(l: &Line<'_>) -> Option<[Option<String>; MAX]> {
    let mut all = [const { None }; MAX];
    let mut fields = Fields::quoted(l.value, ':', Escapes::C);
    for place in &mut all {
        match fields.next() {
            Some(Ok(field)) => *place = Some(field),
            Some(Err(_)) => {
                l.warn(format_args!("Invalid syntax in {}=, ignoring: {}", l.key, l.value));
                return None;
            }
            None => break,
        }
    }
    if fields.rest().is_some() {
        l.warn(format_args!("Too many arguments in {}=, ignoring: {}", l.key, l.value));
        return None;
    }
    Some(all)
}

/// Nothing takes all back.
pub(super) fn mount_point(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    if l.value.is_empty() {
        d.definition.mount_points.clear();
        return Ok(());
    }
    let Some([place, options]) = quoted_fields::<2>(l) else { return Ok(()) };
    if let Some(place) = path(l, &place.unwrap_or_default()) {
        let options = options.filter(|options| !options.is_empty());
        d.definition.mount_points.push(MountPoint { place: place.into(), options });
    }
    Ok(())
}

/// Nothing takes it back.
pub(super) fn encrypted_volume(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    if l.value.is_empty() {
        d.definition.encrypted_volume = None;
        return Ok(());
    }
    let Some([name, key_file, options, extra]) = quoted_fields::<4>(l) else { return Ok(()) };
    let [name, key_file, options] =
        [name, key_file, options].map(|field| field.filter(|field| !field.is_empty()));
    if let Some(name) = &name
        && !is_file_name(name)
    {
        l.warn(format_args!("Volume name {name} is not valid, ignoring"));
        return Ok(());
    }
    let mut fixates_volume_key = false;
    for word in extra.iter().flat_map(|extra| extra.split(',')) {
        if word == "fixate-volume-key" {
            fixates_volume_key = true;
        } else {
            l.warn(format_args!("Unknown extra option '{word}', ignoring"));
        }
    }
    d.definition.encrypted_volume =
        Some(EncryptedVolume { name, key_file, options, fixates_volume_key });
    Ok(())
}
