//! Worlds of transfers in one line each, and what the planner makes of them.

use super::*;
use crate::update::discover;
use crate::update::model::{PathRelativeTo, Source, SourceKind, State, Target};
use crate::update::sets;

/// `NAME SOURCE… > TARGET…`: a transfer of files with the versions it offers and has; `2~` is
/// partial, `2?` pending.
fn entry(text: &str) -> Entry {
    let (head, target) = text.split_once('>').unwrap();
    let mut words = head.split_whitespace();
    let id = words.next().unwrap();
    let pattern = || vec![pattern::Pattern::parse(&format!("{id}_@v")).unwrap()];
    Entry {
        transfer: Transfer {
            id: id.to_owned(),
            file: PathBuf::from(format!("/d/{id}.transfer")),
            is_enabled: true,
            min_version: None,
            protect_versions: Vec::new(),
            verify: true,
            change_log: Vec::new(),
            app_stream: Vec::new(),
            features: Vec::new(),
            requisite_features: Vec::new(),
            source: Source {
                kind: SourceKind::RegularFile,
                path: "/src".to_owned(),
                relative_to: PathRelativeTo::Root,
                patterns: pattern(),
            },
            target: Target {
                kind: TargetKind::RegularFile,
                path: "/dst".to_owned(),
                relative_to: PathRelativeTo::Root,
                patterns: pattern(),
                partition_type: uuid::Uuid::nil(),
                is_partition_type_unknown: false,
                overrides: Fields::default(),
                zero_fill: false,
                instances_max: Some(3),
                remove_temporary: true,
                current_symlink: None,
            },
        },
        source: stock("/src", id, words),
        target: stock("/dst", id, target.split_whitespace()),
    }
}

fn stock<'a>(place: &str, id: &str, words: impl Iterator<Item = &'a str>) -> Stock {
    let mut instances: Vec<Instance> = words
        .map(|word| {
            let (version, state, prefix) = match word.strip_suffix('~') {
                Some(version) => (version, State::Partial, PARTIAL_PREFIX),
                None => match word.strip_suffix('?') {
                    Some(version) => (version, State::Pending, PENDING_PREFIX),
                    None => (word, State::Installed, ""),
                },
            };
            Instance {
                version: version.to_owned(),
                fields: Fields::default(),
                state,
                location: Location::Path(format!("{place}/{prefix}{id}_{version}").into()),
            }
        })
        .collect();
    discover::sort(&mut instances);
    Stock { instances, free: Vec::new(), place: Some(place.into()) }
}

/// The same as a partition target: slots of the size given for each instance, plus free ones.
fn in_slots(text: &str, sizes: &[u64], free: &[u64]) -> Entry {
    let mut entry = entry(text);
    entry.transfer.target.kind = TargetKind::Partition;
    entry.transfer.target.instances_max = None;
    let slot = |number: usize, size_bytes: u64, label: &str| Slot {
        disk: "/disk.img".into(),
        number: u32::try_from(number).unwrap(),
        offset_bytes: 0,
        size_bytes,
        label: label.to_owned(),
        type_uuid: uuid::Uuid::nil(),
    };
    // Instances are sorted newest first; sizes are given oldest first.
    for (index, instance) in entry.target.instances.iter_mut().rev().enumerate() {
        let label = format!("{}_{}", entry.transfer.id, instance.version);
        instance.location = Location::Slot(Box::new(slot(index + 1, sizes[index], &label)));
    }
    let start = entry.target.instances.len() + 1;
    entry.target.free =
        free.iter().enumerate().map(|(i, size)| slot(start + i, *size, "_empty")).collect();
    entry
}

fn plan_for(
    entries: &[Entry],
    version: Option<&str>,
    sizes: &[Option<u64>],
) -> Result<UpdatePlan, String> {
    let members = members(entries);
    let sets = sets::compute(&members);
    let policy = Policy::new(entries, &sets, None, None);
    match select(&sets, version, Extent::Update).map_err(|r| r.to_string())? {
        Choice::Nothing(why) => Err(why),
        Choice::Version { set, .. } => {
            update(entries, &sets.sets[set], sizes, &policy).map_err(|r| r.to_string())
        }
    }
}

fn removed(plan: &VacuumPlan) -> Vec<String> {
    plan.removals.iter().map(|r| r.instance.location.shown()).collect()
}

fn steps(plan: &UpdatePlan) -> String {
    let word = |step: &Step| match step {
        Step::Keep { .. } => "keep",
        Step::Install { .. } => "install",
        Step::Acquire(a) if a.partial.is_some() => "continue",
        Step::Acquire(_) => "acquire",
    };
    plan.steps.iter().map(|(_, step)| word(step)).collect::<Vec<_>>().join(" ")
}

fn vacuumed(entries: &[Entry], instances_max: Option<u64>, running: Option<&str>) -> Vec<String> {
    let members = members(entries);
    let sets = sets::compute(&members);
    let policy = Policy::new(entries, &sets, instances_max, running);
    removed(&vacuum(entries, &policy).unwrap())
}

fn table(entries: &[Entry]) -> Vec<String> {
    let members = members(entries);
    let sets = sets::compute(&members);
    sets.sets.iter().map(|s| format!("{} {}", s.version, s.flags.assessment().0)).collect()
}

#[test]
fn every_combination_of_flags_has_a_word() {
    for bits in 0u32..256 {
        let bit = |n: u32| bits & (1 << n) != 0;
        let flags = sets::Flags {
            newest: bit(0),
            available: bit(1),
            installed: bit(2),
            obsolete: bit(3),
            protected: bit(4),
            incomplete: bit(5),
            partial: bit(6),
            pending: bit(7),
        };
        assert!(!flags.assessment().0.is_empty());
    }
}

#[test]
fn only_versions_of_every_source_are_offered() {
    let entries = [entry("a 1 2 3 > 1"), entry("b 1 3 > 1")];
    assert_eq!(table(&entries), ["3 candidate", "1 current"]);
}

#[test]
fn what_is_on_its_way_is_named_also_where_it_is_not_the_newest() {
    let entries = [entry("a 1 2 3 > 1~ 2? 3"), entry("b 1 2 3 > 3")];
    assert_eq!(table(&entries), ["3 current", "2 installed+pending", "1 installed+partial"]);
}

#[test]
fn current_is_what_is_in_place() {
    let entries = [entry("a 1 2 > 1 2~")];
    let members = members(&entries);
    let sets = sets::compute(&members);
    assert_eq!(sets.current().unwrap().version, "1");
    assert_eq!(sets.candidate().unwrap().version, "2");
}

#[test]
fn half_acquired_version_is_completed_before_it_is_installed() {
    let entries = [entry("a 1 2 > 1 2?"), entry("b 1 2 > 1"), entry("c 1 2 > 1 2~")];
    let plan = plan_for(&entries, None, &[]).unwrap();
    assert_eq!(steps(&plan), "install acquire continue");
    assert_eq!(removed(&plan.vacuum), Vec::<String>::new());
    assert_eq!(plan.vacuum.keep, [PathBuf::from("/dst/.sysupdate.partial.c_2")]);
}

#[test]
fn offline_installs_only_what_is_there_completely() {
    let check = |entries: &[Entry]| {
        let members = members(entries);
        let sets = sets::compute(&members);
        select(&sets, Some("2"), Extent::Install).map(|_| ()).map_err(|r| r.to_string())
    };
    let half = [entry("a > 1 2?"), entry("b > 1")];
    let err = check(&half).unwrap_err();
    assert_eq!(err, "Selected update '2' is not pending installation, refusing.");
    let partial = [entry("a > 1 2~"), entry("b > 1 2?")];
    let err = check(&partial).unwrap_err();
    assert_eq!(err, "Selected update '2' is only partially downloaded, refusing.");
    assert_eq!(check(&[entry("a > 1 2?"), entry("b > 2")]), Ok(()));
}

#[test]
fn repair_leaves_alone_what_is_in_place() {
    let entries = [entry("a 1 2 > 1 2"), entry("b 1 2 > 1")];
    let plan = plan_for(&entries, None, &[]).unwrap();
    assert_eq!((plan.version.as_str(), steps(&plan).as_str()), ("2", "keep acquire"));
}

#[test]
fn oldest_go_first_and_the_limit_counts_the_new_one() {
    let mut entries = [entry("a 4 > 1 2 3")];
    assert_eq!(removed(&plan_for(&entries, None, &[]).unwrap().vacuum), ["/dst/a_1"]);
    entries[0].transfer.target.instances_max = Some(2);
    assert_eq!(removed(&plan_for(&entries, None, &[]).unwrap().vacuum), ["/dst/a_1", "/dst/a_2"]);
}

#[test]
fn newest_complete_version_survives_protection_and_small_limits() {
    let mut entries = [entry("a > 1 2 3")];
    entries[0].transfer.protect_versions = vec!["1".to_owned(), "2".to_owned()];
    entries[0].transfer.target.instances_max = Some(2);
    assert_eq!(vacuumed(&entries, None, None), Vec::<String>::new());
    assert_eq!(vacuumed(&[entry("a > 1 2 3")], Some(1), None), ["/dst/a_1", "/dst/a_2"]);
    // 3 lacks a part, so 2 is the last one that is whole.
    let entries = [entry("a > 1 2 3"), entry("b > 1 2")];
    assert_eq!(vacuumed(&entries, Some(1), None), ["/dst/a_1", "/dst/a_3", "/dst/b_1"]);
}

#[test]
fn running_version_survives() {
    assert_eq!(vacuumed(&[entry("a > 1 2 3")], Some(1), Some("1")), ["/dst/a_2"]);
}

#[test]
fn protection_holds_for_all_transfers_of_the_target() {
    let mut entries = [entry("a 1 2 3 > 1 2"), entry("b 1 2 3 > 1 2")];
    for entry in &mut entries {
        entry.transfer.target.instances_max = Some(2);
    }
    entries[0].transfer.protect_versions = vec!["1".to_owned()];
    let plan = plan_for(&entries, None, &[]).unwrap();
    assert_eq!(removed(&plan.vacuum), Vec::<String>::new());
}

#[test]
fn disabled_transfers_lose_everything_but_what_others_own() {
    let mut entries = [entry("a 1 2 > 1"), entry("b > 1 2~"), entry("a > 1")];
    entries[1].transfer.is_enabled = false;
    entries[2].transfer.is_enabled = false;
    let plan = plan_for(&entries, None, &[]).unwrap();
    let expected = ["/dst/b_1", "/dst/.sysupdate.partial.b_2"];
    assert_eq!(removed(&plan.vacuum), expected);
    assert_eq!(plan.vacuum.counts(), (0, 1));
}

#[test]
fn names_are_made_for_all_transfers_before_anything_goes() {
    let mut entries = [entry("a 1 2 3 4 > 1 2 3"), entry("b 1 2 3 4 > 1 2 3")];
    entries[1].transfer.target.patterns = vec![pattern::Pattern::parse("b_@v_@u").unwrap()];
    let err = plan_for(&entries, None, &[]).unwrap_err();
    assert!(err.starts_with("Failed to format target pattern: 'b_@v_@u'"), "{err}");
    let twice = [entry("a 1 > "), entry("a 1 > ")];
    let err = plan_for(&twice, None, &[]).unwrap_err();
    assert_eq!(err, "Transfers 'a' and 'a' would both create '/dst/a_1', refusing.");
}

fn chosen(plan: &UpdatePlan) -> Vec<u32> {
    plan.steps
        .iter()
        .filter_map(|(_, step)| match step {
            Step::Acquire(a) => match &a.goal {
                Goal::Slot { slot, .. } => Some(slot.number),
                Goal::Name { .. } => None,
            },
            _ => None,
        })
        .collect()
}

#[test]
fn smallest_slot_that_fits_is_written_and_no_version_given_up_for_it() {
    let entries = [in_slots("a 2 > 1", &[100], &[50, 200, 100])];
    let plan = plan_for(&entries, None, &[Some(80)]).unwrap();
    assert_eq!((chosen(&plan), removed(&plan.vacuum)), (vec![4], vec![]));
    // Nobody knows the size: the largest one is the best guess.
    let plan = plan_for(&entries, None, &[None]).unwrap();
    assert_eq!(chosen(&plan), [3]);
}

#[test]
fn oldest_version_in_a_slot_that_fits_gives_way() {
    let entries = [in_slots("a 4 > 1 2 3", &[50, 100, 100], &[])];
    let plan = plan_for(&entries, None, &[Some(80)]).unwrap();
    assert_eq!((chosen(&plan), removed(&plan.vacuum)), (vec![2], vec!["/disk.imgp2".to_owned()]));
}

#[test]
fn payload_that_fits_nowhere_is_refused_with_the_reason_of_every_slot() {
    let entries = [in_slots("a 4 > 1 2", &[50, 100], &[60])];
    let members = members(&entries);
    let sets = sets::compute(&members);
    let policy = Policy::new(&entries, &sets, None, None);
    let refusal = update(&entries, sets.candidate().unwrap(), &[Some(80)], &policy).unwrap_err();
    let error = crate::error::Error::from(refusal);
    assert_eq!(
        error.to_string(),
        "No available partition of a suitable size found for transfer 'a', which needs 80 bytes"
    );
    assert_eq!(
        error.hints(),
        [
            "slot /disk.imgp1 has only 50 bytes; slot /disk.imgp2 holds version '2', which is needed; \
          slot /disk.imgp3 has only 60 bytes"
        ]
    );
}

#[test]
fn two_transfers_never_get_the_same_slot() {
    let entries =
        [in_slots("a 2 > 1", &[100], &[100, 100]), in_slots("b 2 > 1", &[100], &[100, 100])];
    let plan = plan_for(&entries, None, &[]).unwrap();
    assert_eq!(chosen(&plan), [2, 3]);
}

#[test]
fn one_slot_is_not_enough() {
    let entries = [in_slots("a 2 > 1", &[100], &[])];
    let err = plan_for(&entries, None, &[]).unwrap_err();
    assert!(err.starts_with("Partition table has less than two partition slots"), "{err}");
}

#[test]
fn guessed_partition_type_is_never_written() {
    let mut entries = [in_slots("a 2 > 1", &[100], &[100])];
    entries[0].transfer.target.is_partition_type_unknown = true;
    let err = plan_for(&entries, None, &[]).unwrap_err();
    assert!(err.starts_with("Partition type of transfer 'a' is not known"), "{err}");
}

#[test]
fn installed_leftovers_with_another_name_are_not_continued() {
    let mut entries = [entry("a 2 > 1 2~")];
    entries[0].transfer.target.patterns =
        ["a_@v+@l", "a_@v"].map(|text| pattern::Pattern::parse(text).unwrap()).to_vec();
    let plan = plan_for(&entries, None, &[]).unwrap();
    assert_eq!(steps(&plan), "acquire");
    assert_eq!(removed(&plan.vacuum), ["/dst/.sysupdate.partial.a_2"]);
}

#[test]
fn seventy_thousand_versions_take_no_time() {
    let versions: Vec<String> = (0..70_000).map(|n| format!("{}.{}", n / 100, n % 100)).collect();
    let mut entry = entry("a > ");
    entry.source = stock("/src", "a", versions.iter().map(String::as_str));
    let entries = [entry];
    let members = members(&entries);
    let sets = sets::compute(&members);
    assert_eq!(sets.sets.len(), 70_000);
    assert_eq!(sets.candidate().unwrap().version, "699.99");
}
