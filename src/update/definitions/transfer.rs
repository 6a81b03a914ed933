//! `*.transfer`: from the keys of a file and its drop-ins to a [`Transfer`].
//!
//! Document: sysupdate.d(5).

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::setters::{list, text, urls};
use crate::conf::ini::{self, Key, Line};
use crate::conf::search::Found;
use crate::conf::{specifier, value};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::format::gpt::types;
use crate::format::pattern::{self, Fields, ListError, Pattern};
use crate::format::version;
use crate::update::discover::paths::AUTO;
use crate::update::model::{PathRelativeTo, Source, SourceKind, Target, TargetKind, Transfer};

/// `InstancesMax=` of files and directories.
const INSTANCES_MAX: u64 = 3;

/// What a file says so far.
struct Draft<'a> {
    ctx: &'a Ctx,
    min_version: Option<String>,
    protect_versions: Vec<String>,
    verify: bool,
    change_log: Vec<String>,
    app_stream: Vec<String>,
    features: Vec<String>,
    requisite_features: Vec<String>,
    source: Side,
    target: Side,
    partition_type: Uuid,
    is_partition_type_unknown: bool,
    overrides: Fields,
    zero_fill: Option<bool>,
    instances_max: Option<u64>,
    remove_temporary: bool,
    current_symlink: Option<String>,
}

/// What sources and targets have in common.
#[derive(Default)]
struct Side {
    kind: Option<String>,
    path: Option<String>,
    relative_to: PathRelativeTo,
    patterns: Vec<Pattern>,
    /// Line of the last `Type=`, `Path=` and `PathRelativeTo=`, for errors.
    line: Option<u32>,
}

/// Reads one definition; `files` are the file itself and its drop-ins.
pub(super) fn load(
    ctx: &Ctx,
    file: &Found,
    files: &[Found],
    has_transfer_source: bool,
) -> Result<Transfer> {
    let mut draft = Draft {
        ctx,
        min_version: None,
        protect_versions: Vec::new(),
        verify: true,
        change_log: Vec::new(),
        app_stream: Vec::new(),
        features: Vec::new(),
        requisite_features: Vec::new(),
        source: Side::default(),
        target: Side::default(),
        partition_type: types::LINUX_GENERIC,
        is_partition_type_unknown: false,
        overrides: Fields::default(),
        zero_fill: None,
        instances_max: None,
        remove_temporary: true,
        current_symlink: None,
    };
    ini::load(&mut draft, files, &keys())?;
    finish(draft, file, has_transfer_source)
}

fn keys<'a>() -> [Key<Draft<'a>>; 28] {
    let [t, s, g] = ["Transfer", "Source", "Target"];
    [
        Key::new(t, "MinVersion", |d, l| set(&mut d.min_version, version_of(d.ctx, l))),
        Key::new(t, "ProtectVersion", protect_version),
        Key::new(t, "Verify", |d, l| boolean(&mut d.verify, l)),
        Key::new(t, "ChangeLog", |d, l| urls(d.ctx, &mut d.change_log, l, value::is_http_url)),
        Key::new(t, "AppStream", |d, l| urls(d.ctx, &mut d.app_stream, l, value::is_http_url)),
        Key::new(t, "Features", |d, l| list(&mut d.features, l)),
        Key::new(t, "RequisiteFeatures", |d, l| list(&mut d.requisite_features, l)),
        Key::new(s, "Type", |d, l| kind(&mut d.source, l)),
        Key::new(s, "Path", |d, l| path(d.ctx, &mut d.source, l)),
        Key::new(s, "PathRelativeTo", |d, l| relative_to(&mut d.source, l)),
        Key::new(s, "MatchPattern", |d, l| patterns(d.ctx, &mut d.source, l, true)),
        Key::new(g, "Type", |d, l| kind(&mut d.target, l)),
        Key::new(g, "Path", |d, l| path(d.ctx, &mut d.target, l)),
        Key::new(g, "PathRelativeTo", |d, l| relative_to(&mut d.target, l)),
        Key::new(g, "MatchPattern", |d, l| patterns(d.ctx, &mut d.target, l, false)),
        Key::new(g, "MatchPartitionType", partition_type),
        Key::new(g, "PartitionUUID", partition_uuid),
        Key::new(g, "PartitionFlags", partition_flags),
        Key::new(g, "PartitionNoAuto", |d, l| tristate(&mut d.overrides.no_auto, l)),
        Key::new(g, "PartitionGrowFileSystem", |d, l| tristate(&mut d.overrides.grow_fs, l)),
        Key::new(g, "ReadOnly", |d, l| tristate(&mut d.overrides.read_only, l)),
        Key::new(g, "PartitionZeroFill", |d, l| tristate(&mut d.zero_fill, l)),
        Key::new(g, "Mode", mode),
        Key::new(g, "TriesLeft", |d, l| number(&mut d.overrides.tries_left, l)),
        Key::new(g, "TriesDone", |d, l| number(&mut d.overrides.tries_done, l)),
        Key::new(g, "InstancesMax", instances_max),
        Key::new(g, "RemoveTemporary", |d, l| boolean(&mut d.remove_temporary, l)),
        Key::new(g, "CurrentSymlink", current_symlink),
    ]
}

fn set<T>(place: &mut Option<T>, value: Option<Option<T>>) -> Result<()> {
    if let Some(value) = value {
        *place = value;
    }
    Ok(())
}

/// A version; the outer none where it is ignored, the inner where it is taken back.
fn version_of(ctx: &Ctx, line: &Line<'_>) -> Option<Option<String>> {
    let expanded = text(ctx, line, specifier::NAME_MAX)?;
    if version::is_valid(&expanded) {
        return Some(Some(expanded));
    }
    line.warn(format_args!("{}= string is not valid, ignoring: {expanded}", line.key));
    None
}

fn protect_version(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    if let Some(Some(version)) = version_of(d.ctx, l)
        && !d.protect_versions.contains(&version)
    {
        d.protect_versions.push(version);
    }
    Ok(())
}

fn boolean(place: &mut bool, line: &Line<'_>) -> Result<()> {
    if let Some(value) = line.parse(value::boolean) {
        *place = value;
    }
    Ok(())
}

fn tristate(place: &mut Option<bool>, line: &Line<'_>) -> Result<()> {
    set(place, line.parse(value::tristate))
}

fn number(place: &mut Option<u64>, line: &Line<'_>) -> Result<()> {
    if line.value.is_empty() {
        *place = None;
        return Ok(());
    }
    set(place, line.parse(value::unsigned).map(Some))
}

fn kind(side: &mut Side, line: &Line<'_>) -> Result<()> {
    const KINDS: [&str; 7] =
        ["url-file", "url-tar", "tar", "partition", "regular-file", "directory", "subvolume"];
    side.line = Some(line.line);
    if KINDS.contains(&line.value) {
        side.kind = Some(line.value.to_owned());
    } else {
        line.ignore("not a resource type");
    }
    Ok(())
}

fn path(ctx: &Ctx, side: &mut Side, line: &Line<'_>) -> Result<()> {
    side.line = Some(line.line);
    if line.value.is_empty() {
        side.path = None;
    } else if let Some(text) = text(ctx, line, specifier::PATH_MAX) {
        side.path = Some(text);
    }
    Ok(())
}

fn relative_to(side: &mut Side, line: &Line<'_>) -> Result<()> {
    side.line = Some(line.line);
    side.relative_to = match line.value {
        "root" => PathRelativeTo::Root,
        "esp" => PathRelativeTo::Esp,
        "xbootldr" => PathRelativeTo::Xbootldr,
        "boot" => PathRelativeTo::Boot,
        "explicit" => PathRelativeTo::Explicit,
        _ => {
            line.ignore("not one of root, esp, xbootldr, boot, explicit");
            return Ok(());
        }
    };
    Ok(())
}

fn patterns(ctx: &Ctx, side: &mut Side, line: &Line<'_>, is_source: bool) -> Result<()> {
    if line.value.is_empty() {
        side.patterns.clear();
        return Ok(());
    }
    let expand = &mut |word: &str| specifier::expand(ctx, word, specifier::NAME_MAX);
    match pattern::parse_list(line.value, expand) {
        Ok(patterns) => {
            for pattern in patterns {
                if pattern.is_recursive() && !is_source {
                    return Err(line.error(format!(
                        "'**/' prefix is only supported in a source MatchPattern=, refusing: {pattern}"
                    )));
                }
                if !side.patterns.contains(&pattern) {
                    side.patterns.push(pattern);
                }
            }
        }
        Err(ListError::Expand { word, cause }) => line.warn(format_args!(
            "Failed to expand specifiers in MatchPattern=, ignoring: {word} ({cause})"
        )),
        Err(ListError::Pattern(err)) => {
            return Err(line.error(err.to_string()).with_errno(err.errno()));
        }
    }
    Ok(())
}

fn partition_type(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    match types::parse(l.value) {
        Some(uuid) => (d.partition_type, d.is_partition_type_unknown) = (uuid, false),
        // DIFFERS: the peer goes on with linux-generic and would write to such a partition (D18).
        None => {
            l.warn(format_args!(
                "Failed to parse partition type, ignoring: {} (nothing will be written to partitions)",
                l.value
            ));
            d.is_partition_type_unknown = true;
        }
    }
    Ok(())
}

fn partition_uuid(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    match Uuid::try_parse(l.value) {
        Ok(uuid) => d.overrides.partition_uuid = Some(uuid),
        Err(_) => l.warn(format_args!("Failed to parse partition UUID, ignoring: {}", l.value)),
    }
    Ok(())
}

fn partition_flags(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    match value::hexadecimal(l.value) {
        Ok(flags) => d.overrides.partition_flags = Some(flags),
        Err(_) => l.warn(format_args!("Failed to parse partition flags, ignoring: {}", l.value)),
    }
    Ok(())
}

fn mode(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    if l.value.is_empty() {
        d.overrides.mode = None;
        return Ok(());
    }
    set(&mut d.overrides.mode, l.parse(value::mode).map(Some))
}

fn instances_max(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    if l.value.is_empty() {
        d.instances_max = None;
        return Ok(());
    }
    match value::unsigned(l.value) {
        Ok(max) if max < 2 => {
            l.warn(format_args!("InstancesMax= value must be at least 2, bumping: {}", l.value));
            d.instances_max = Some(2);
        }
        Ok(max) => d.instances_max = Some(max),
        Err(_) => {
            l.warn(format_args!("Failed to parse InstancesMax= value, ignoring: {}", l.value));
        }
    }
    Ok(())
}

fn current_symlink(d: &mut Draft<'_>, l: &Line<'_>) -> Result<()> {
    if l.value.is_empty() {
        d.current_symlink = None;
        return Ok(());
    }
    if let Some(link) = text(d.ctx, l, specifier::NAME_MAX) {
        let link = value::simplify(&link);
        let relative = link.trim_start_matches('/');
        if value::is_normalized(&link) && !relative.is_empty() {
            d.current_symlink = Some(link);
        } else {
            l.warn(format_args!("CurrentSymlink= path is not normalized, ignoring: {link}"));
        }
    }
    Ok(())
}

fn finish(d: Draft<'_>, file: &Found, has_transfer_source: bool) -> Result<Transfer> {
    let at = |line: Option<u32>, text: String| {
        Error::new(text).at(&file.path, line.unwrap_or(1)).with_errno(22)
    };
    let id = file.name.rsplit_once('.').map_or(file.name.as_str(), |(id, _)| id).to_owned();

    let refuse_source = |text: &str| at(d.source.line, text.to_owned());
    let source_kind = d.source.kind.as_deref().and_then(source_kind).ok_or_else(|| {
        refuse_source(
            "Source Type= must be one of url-file, url-tar, tar, regular-file, directory, subvolume.",
        )
    })?;
    let target_kind = target_kind(&d, source_kind).map_err(|text| at(d.target.line, text))?;

    let source_path = d.source.path.as_deref();
    let source_path =
        source_path.ok_or_else(|| refuse_source("Source specification lacks Path=."))?;
    let source_path = check_source(&d.source, source_kind, source_path, has_transfer_source)
        .map_err(|text| at(d.source.line, text))?;
    let target_path =
        check_target(&d.target, target_kind).map_err(|text| at(d.target.line, text))?;
    if let Some(link) = d.current_symlink.as_deref()
        && target_kind == TargetKind::Partition
        && !link.starts_with('/')
    {
        let text = "Current symlink must be absolute path if target is partition";
        return Err(at(None, format!("{text}: {link}")));
    }

    let mut target_patterns = d.target.patterns;
    if target_patterns.is_empty() {
        log::info!(
            "{}:1: Target specification lacks MatchPattern= expression. Assuming same value as in source specification.",
            file.path.display()
        );
        target_patterns = d.source.patterns.iter().map(Pattern::without_recursion).collect();
    }
    let is_partition = target_kind == TargetKind::Partition;
    Ok(Transfer {
        id,
        file: file.path.clone(),
        is_enabled: false,
        min_version: d.min_version,
        protect_versions: d.protect_versions,
        verify: d.verify,
        change_log: d.change_log,
        app_stream: d.app_stream,
        features: d.features,
        requisite_features: d.requisite_features,
        source: Source {
            kind: source_kind,
            path: source_path,
            relative_to: d.source.relative_to,
            patterns: d.source.patterns,
        },
        target: Target {
            kind: target_kind,
            path: target_path,
            relative_to: d.target.relative_to,
            patterns: target_patterns,
            partition_type: d.partition_type,
            is_partition_type_unknown: is_partition && d.is_partition_type_unknown,
            overrides: d.overrides,
            zero_fill: d
                .zero_fill
                .unwrap_or_else(|| types::designator(d.partition_type).is_verity_sig()),
            instances_max: d.instances_max.or((!is_partition).then_some(INSTANCES_MAX)),
            remove_temporary: d.remove_temporary,
            current_symlink: d.current_symlink,
        },
    })
}

fn source_kind(word: &str) -> Option<SourceKind> {
    Some(match word {
        "url-file" => SourceKind::UrlFile,
        "url-tar" => SourceKind::UrlTar,
        "tar" => SourceKind::Tar,
        "regular-file" => SourceKind::RegularFile,
        "directory" => SourceKind::Directory,
        "subvolume" => SourceKind::Subvolume,
        _ => return None,
    })
}

/// The target's type: given, or what goes with the source.
fn target_kind(d: &Draft<'_>, source: SourceKind) -> Result<TargetKind, String> {
    let is_image = matches!(source, SourceKind::UrlFile | SourceKind::RegularFile);
    let kind = match d.target.kind.as_deref() {
        Some("partition") => TargetKind::Partition,
        Some("regular-file") => TargetKind::RegularFile,
        Some("directory") => TargetKind::Directory,
        Some("subvolume") => TargetKind::Subvolume,
        None => match source {
            SourceKind::Subvolume => TargetKind::Subvolume,
            _ if !is_image => TargetKind::Directory,
            _ if d.target.path.as_deref().is_some_and(|p| p.starts_with("/dev/")) => {
                TargetKind::Partition
            }
            _ => TargetKind::RegularFile,
        },
        Some(_) => {
            let text = "Target Type= must be one of partition, regular-file, directory, subvolume.";
            return Err(text.to_owned());
        }
    };
    if kind.is_directory() == is_image {
        return Err(format!(
            "Target type '{}' is incompatible with source type '{}', refusing.",
            kind.as_str(),
            source.as_str()
        ));
    }
    Ok(kind)
}

fn check_source(
    side: &Side,
    kind: SourceKind,
    path: &str,
    has_transfer_source: bool,
) -> Result<String, String> {
    if side.relative_to == PathRelativeTo::Explicit && !has_transfer_source {
        return Err("PathRelativeTo=explicit requires --transfer-source= to be specified.".into());
    }
    let path = if kind.is_web() {
        if !value::is_http_url(path) && !value::is_file_url(path) {
            return Err(format!("Source path is not a valid HTTP or HTTPS URL: {path}"));
        }
        path.to_owned()
    } else {
        let simple = value::simplify(path);
        if !is_absolute(&simple) {
            return Err(format!("Source path is not a normalized, absolute path: {path}"));
        }
        check_relative_to(side, matches!(kind, SourceKind::RegularFile))?;
        simple
    };
    if side.patterns.is_empty() {
        return Err("Source specification lacks MatchPattern=.".into());
    }
    if kind.is_directory() && side.patterns.iter().any(Pattern::is_recursive) {
        return Err(
            "MatchPattern= with '**/' prefix is not supported for source Type=directory and \
                    Type=subvolume, refusing."
                .into(),
        );
    }
    Ok(path)
}

fn check_target(side: &Side, kind: TargetKind) -> Result<String, String> {
    let path = side.path.as_deref().ok_or("Target specification lacks Path= field.")?;
    if side.relative_to == PathRelativeTo::Explicit {
        return Err("PathRelativeTo=explicit can only be used in source specifications.".into());
    }
    if path == AUTO {
        if kind != TargetKind::Partition {
            return Err(
                "Automatic root path discovery only supported for partition resources.".into()
            );
        }
        return Ok(path.to_owned());
    }
    let simple = value::simplify(path);
    if !is_absolute(&simple) {
        return Err(format!("Target path is not a normalized, absolute path: {path}"));
    }
    check_relative_to(side, matches!(kind, TargetKind::RegularFile | TargetKind::Directory))?;
    Ok(simple)
}

fn check_relative_to(side: &Side, is_supported: bool) -> Result<(), String> {
    let name = match side.relative_to {
        PathRelativeTo::Esp => "esp",
        PathRelativeTo::Xbootldr => "xbootldr",
        PathRelativeTo::Boot => "boot",
        PathRelativeTo::Root | PathRelativeTo::Explicit => return Ok(()),
    };
    if is_supported {
        return Ok(());
    }
    Err(format!(
        "Paths relative to {name} are only allowed for regular-file or directory resources."
    ))
}

fn is_absolute(path: &str) -> bool {
    Path::new(path).is_absolute() && value::is_normalized(path)
}

/// Where `CurrentSymlink=` is, as a path of this process; `directory` is the target's.
pub fn current_symlink_path(
    ctx: &Ctx,
    target: &Target,
    directory: Option<&Path>,
) -> Option<PathBuf> {
    let link = Path::new(target.current_symlink.as_deref()?);
    if link.is_absolute() { Some(ctx.at(link)) } else { Some(directory?.join(link)) }
}
