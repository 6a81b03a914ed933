//! What people and programs are told: the table, the picture of the disk, and JSON.
//!
//! All of it follows from the plan. Root hashes and the names of split files are known late only;
//! they come as an [`Outcome`]. Partitions are shown in the order they have on the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use uuid::Uuid;

use super::identity;
use super::model::{Origin, PartitionPlan, Plan};
use crate::crypto::text::hex;
use crate::error::Result;
use crate::format::gpt::{Partition, types};
use crate::out::table::{Align, Look, Table};
use crate::out::{Cell, Color, Glyph, escape, human};

/// What a run tells whoever started it.
pub trait Sink {
    /// What is going to happen, before anything does. `before` are the partitions that are on the
    /// disk now, those that are lost included.
    fn planned(&self, plan: &Plan, before: &[Partition], outcome: &Outcome) -> Result<()>;

    /// What has happened; also at the end of a dry run.
    fn done(&self, plan: &Plan, outcome: &Outcome) -> Result<()>;
}

/// What is not known when the plan is made, by the position of the partition in the plan.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Root hashes of Verity sets, at any partition of the set.
    pub root_hashes: BTreeMap<usize, Vec<u8>>,
    /// UUIDs that follow from root hashes.
    pub uuids: BTreeMap<usize, Uuid>,
    /// What `fixate-volume-key=` in crypttab says, for volumes that were encrypted in this run.
    pub volume_keys: BTreeMap<usize, String>,
    /// Files that the partitions were copied to; none where that was not asked for.
    pub split_paths: Option<BTreeMap<usize, PathBuf>>,
}

impl Outcome {
    /// What stands in the column of root hashes; none for what has no Verity.
    fn root_hash(&self, position: usize, partition: &PartitionPlan) -> Option<String> {
        partition.definition.as_ref()?.verity.as_ref()?;
        let siblings = partition.siblings;
        let hash = [Some(position), siblings.data, siblings.hash, siblings.signature]
            .into_iter()
            .flatten()
            .find_map(|at| self.root_hashes.get(&at));
        Some(hash.map_or_else(|| "TBD".to_owned(), |hash| hex(hash)))
    }

    fn uuid(&self, position: usize, partition: &PartitionPlan) -> Uuid {
        self.uuids.get(&position).copied().unwrap_or(partition.uuid)
    }
}

/// The partitions with their positions in the plan, in the order they have on the disk.
fn sorted(plan: &Plan) -> Vec<(usize, &PartitionPlan)> {
    let mut rows: Vec<_> = plan.partitions.iter().enumerate().collect();
    rows.sort_by_key(|(_, partition)| partition.offset);
    rows
}

/// The node of a partition as libfdisk names it: `p` after a digit only, `-part` behind the names
/// that udev makes.
pub fn node(disk: &Path, number: u32) -> PathBuf {
    let mut name = disk.as_os_str().to_os_string();
    let ends_in_digit = name.as_encoded_bytes().last().is_some_and(u8::is_ascii_digit);
    let middle = match disk.starts_with("/dev/disk") {
        true => "-part",
        false if ends_in_digit => "p",
        false => "",
    };
    name.push(format!("{middle}{number}"));
    name.into()
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn type_name(type_uuid: Uuid) -> String {
    types::name(type_uuid).unwrap_or_else(|| type_uuid.to_string())
}

/// What the partitions are called, in the order of the plan. COMPAT(262): one that belongs to no
/// definition and has no label is shown with the one it would get, and does not get it; it counts
/// as nameless for the others.
fn labels(plan: &Plan) -> Vec<String> {
    let shown = |partition: &PartitionPlan| {
        if partition.definition.is_some() || !partition.label.is_empty() {
            return partition.label.clone();
        }
        let is_earlier =
            |other: &&PartitionPlan| other.definition.is_some() || other.number < partition.number;
        identity::label(partition.type_uuid, &|label| {
            plan.partitions.iter().filter(is_earlier).any(|other| other.label == label)
        })
    };
    plan.partitions.iter().map(shown).collect()
}

/// The label at a position; a dash for none.
fn label(labels: &[String], position: usize) -> &str {
    labels.get(position).map(String::as_str).filter(|label| !label.is_empty()).unwrap_or("-")
}

/// The partitions as an array of objects.
pub fn json(plan: &Plan, outcome: &Outcome) -> Value {
    let mut table = Table::new(&[
        "type",
        "label",
        "uuid",
        "partno",
        "file",
        "node",
        "offset",
        "old_size",
        "raw_size",
        "old_padding",
        "raw_padding",
        "activity",
        "roothash",
        "drop-in_files",
        "split_path",
    ]);
    table.set_json_name(13, "drop-in_files");
    let labels = labels(plan);
    for (position, partition) in sorted(plan) {
        let text = |text: String| Cell::from(text).into();
        table.row([
            text(type_name(partition.type_uuid)),
            label(&labels, position).into(),
            text(outcome.uuid(position, partition).to_string()),
            u64::from(partition.number.saturating_sub(1)).into(),
            file(partition).map(shown).into(),
            text(shown(&node(&plan.disk.path, partition.number))),
            partition.offset.into(),
            partition.old_size.into(),
            partition.size.into(),
            partition.old_padding.into(),
            partition.padding.into(),
            partition.activity.name().into(),
            outcome.root_hash(position, partition).into(),
            drop_ins(partition).into(),
            split_path(outcome, position).into(),
        ]);
    }
    for column in 12..=14 {
        table.hide_if_empty(column);
    }
    table.to_json()
}

/// Where its definition comes from: a file, or the disk it is copied from.
fn file(partition: &PartitionPlan) -> Option<&Path> {
    partition.definition.as_ref().map(|definition| definition.path())
}

fn drop_ins(partition: &PartitionPlan) -> Cell<'static> {
    let paths = match partition.definition.as_ref().map(|definition| &definition.origin) {
        Some(Origin::File { drop_ins, .. }) => drop_ins.as_slice(),
        _ => &[],
    };
    if paths.is_empty() {
        return Cell::Empty;
    }
    Cell::Lines(paths.iter().map(|path| shown(path)).collect())
}

fn split_path(outcome: &Outcome, position: usize) -> Option<String> {
    let paths = outcome.split_paths.as_ref()?;
    Some(paths.get(&position).map_or_else(|| "-".to_owned(), |path| shown(path)))
}

/// The table for people.
pub fn table(plan: &Plan, outcome: &Outcome, look: &Look) -> String {
    let titles = [
        "type",
        "label",
        "uuid",
        "part",
        "file",
        "raw size",
        "size",
        "padding",
        "roothash",
        "drop-in files",
        "split path",
    ];
    let mut table = Table::new(&titles);
    table.color_empty_cells();
    [3, 5, 6, 7].into_iter().for_each(|column| table.set_align(column, Align::Right));
    let (rows, labels) = (sorted(plan), labels(plan));
    let sum = |part: fn(&PartitionPlan) -> u64| {
        rows.iter().fold(0_u64, |sum, (_, partition)| sum.saturating_add(part(partition)))
    };
    let (size, padding) = (sum(|partition| partition.size), sum(|partition| partition.padding));
    for (index, (position, partition)) in rows.iter().enumerate() {
        // The line above the sums.
        let line = |sum: u64| (index + 1 == rows.len() && sum > 0).then_some(Color::Underline);
        let old = |old: u64| partition.existing.is_some().then_some(old);
        let name = file(partition).and_then(Path::file_name).map(|name| shown(Path::new(name)));
        table.row([
            type_name(partition.type_uuid).into(),
            label(&labels, *position).into(),
            outcome.uuid(*position, partition).to_string().into(),
            u64::from(partition.number.saturating_sub(1)).into(),
            name.into(),
            partition.size.into(),
            change(old(partition.old_size), partition.size, look).colored(line(size)),
            change(old(partition.old_padding), partition.padding, look).colored(line(padding)),
            outcome.root_hash(*position, partition).into(),
            drop_ins(partition).into(),
            split_path(outcome, *position).into(),
        ]);
    }
    for column in 8..=10 {
        table.hide_if_empty(column);
    }
    if size > 0 || padding > 0 {
        let empty = || Cell::Empty.into();
        let sigma = Glyph::Sigma.text(look.is_utf8);
        let sum = |bytes| format!("{sigma} = {}", human::size(bytes)).into();
        let [a, b, c, d, e, f] = std::array::from_fn(|_| empty());
        table.row([a, b, c, d, e, f, sum(size), sum(padding)]);
    }
    // As the peer: this table is never cut.
    table.to_text(&Look { is_limited: false, ..look.clone() })
}

/// `10M`, `→ 10M` for something new, `10M → 20M`.
fn change(old: Option<u64>, new: u64, look: &Look) -> Cell<'static> {
    let arrow = Glyph::ArrowRight.text(look.is_utf8);
    let new_text = human::size(new);
    match old {
        Some(old) if old == new => new_text.into(),
        Some(old) => format!("{} {arrow} {new_text}", human::size(old)).into(),
        None => format!("{arrow} {new_text}").into(),
    }
}

/// A part of the disk in the picture.
struct Piece {
    from: u64,
    to: u64,
    hint: String,
}

/// The disk as it will be, as a bar with the names below.
pub fn picture(plan: &Plan, look: &Look) -> String {
    let labels = labels(plan);
    let pieces = sorted(plan).into_iter().map(|(position, partition)| {
        let name = file(partition).and_then(Path::file_name).map(|name| shown(Path::new(name)));
        let own = || labels.get(position).filter(|label| !label.is_empty()).cloned();
        let hint = name.or_else(own);
        Piece {
            from: partition.offset,
            to: partition.offset.saturating_add(partition.size),
            hint: hint.unwrap_or_else(|| shown(&node(&plan.disk.path, partition.number))),
        }
    });
    draw(&pieces.collect::<Vec<_>>(), plan.disk.size, look)
}

/// The disk as it was, in the same scale.
pub fn picture_before(plan: &Plan, before: &[Partition], look: &Look) -> String {
    let sector = u64::from(plan.disk.sector_size);
    let mut pieces: Vec<Piece> = before
        .iter()
        .map(|partition| Piece {
            from: partition.first_lba.saturating_mul(sector),
            to: partition.last_lba.saturating_add(1).saturating_mul(sector),
            hint: match partition.name.as_str() {
                "" => shown(&node(&plan.disk.path, partition.number)),
                name => name.to_owned(),
            },
        })
        .collect();
    pieces.sort_by_key(|piece| piece.from);
    draw(&pieces, plan.disk.size, look)
}

/// The bar: a column belongs to the partition that covers its beginning. A line below for each
/// partition, the last one first.
fn draw(pieces: &[Piece], total: u64, look: &Look) -> String {
    // DIFFERS: the peer aborts on a terminal of two columns.
    let columns = look.columns.saturating_sub(2).max(1);
    let column = |byte: u64| -> usize {
        let scaled = u128::from(byte.min(total)) * columns as u128 / u128::from(total.max(1));
        usize::try_from(scaled).unwrap_or(columns).min(columns)
    };
    let starts: Vec<usize> = pieces.iter().map(|piece| column(piece.from)).collect();
    let mut owners: Vec<Option<usize>> = vec![None; columns];
    for (index, piece) in pieces.iter().enumerate() {
        let covered = owners.get_mut(column(piece.from)..column(piece.to));
        covered.unwrap_or_default().fill(Some(index));
    }
    let code = |color: &'static str| if look.colors.is_on() { color } else { "" };
    let mut text = String::from(" ");
    let (mut last, mut is_green) = (None, false);
    for owner in owners {
        if let Some(owner) = owner {
            is_green ^= last != Some(owner);
            last = Some(owner);
            let color = if is_green { Color::Green } else { Color::Yellow };
            text.push_str(color.code(look.colors));
            text.push_str(Glyph::DarkShade.text(look.is_utf8));
        } else {
            text.push_str(code(crate::out::RESET));
            text.push_str(Glyph::LightShade.text(look.is_utf8));
        }
    }
    text.push_str(code(crate::out::RESET));
    text.push('\n');
    for turn in (0..pieces.len()).rev() {
        draw_hint(&mut text, pieces, &starts, turn, columns, look.is_utf8);
    }
    text
}

/// One line below the bar: the name of the partition whose turn it is, and the stems of those that
/// come later.
fn draw_hint(
    text: &mut String,
    pieces: &[Piece],
    starts: &[usize],
    turn: usize,
    columns: usize,
    is_utf8: bool,
) {
    let mut line: BTreeMap<usize, String> = BTreeMap::new();
    for start in starts.iter().take(turn) {
        line.insert(*start, Glyph::TreeVertical.text(is_utf8).to_owned());
    }
    if let (Some(start), Some(piece)) = (starts.get(turn), pieces.get(turn)) {
        let has_stem = line.contains_key(start);
        let branch = if has_stem { Glyph::TreeBranch } else { Glyph::TreeRight };
        let hint = format!("{} {}", branch.text(is_utf8), escape::line(&piece.hint));
        line.insert(*start, hint);
    }
    text.push(' ');
    let mut at = 0;
    while at < columns {
        match line.get(&at) {
            Some(piece) => {
                text.push_str(piece);
                at += escape::width(piece).max(1);
            }
            None => {
                text.push(' ');
                at += 1;
            }
        }
    }
    text.push('\n');
}

/// True where the table is shown once more at the end, because it says more then.
pub fn says_more(outcome: &Outcome) -> bool {
    !outcome.root_hashes.is_empty()
}
