//! Definitions in trees of their own: what is needed, ignored, refused, masked and switched.

use std::fs;

use super::*;
use crate::update::model::{SourceKind, TargetKind};

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn ctx(&self) -> Ctx {
        Ctx::host([]).with_root(self.0.path())
    }

    fn load(&self) -> Result<Definitions> {
        load(&self.ctx(), &Origin::default(), false)
    }

    fn ids(&self) -> Vec<String> {
        self.load().unwrap().transfers.into_iter().map(|t| t.id).collect()
    }
}

const GOOD: &str =
    "[Source]\nType=regular-file\nPath=/src\nMatchPattern=a_@v\n[Target]\nPath=/dst\n";

fn loaded(text: &str) -> Transfer {
    Tree::new(&[("etc/sysupdate.d/10-a.transfer", text)]).load().unwrap().transfers.remove(0)
}

fn error(text: &str) -> String {
    let tree = Tree::new(&[("etc/sysupdate.d/10-a.transfer", text)]);
    let err = tree.load().unwrap_err().to_string();
    err.replace(&tree.0.path().display().to_string(), "")
}

#[test]
fn little_is_needed_and_the_rest_has_defaults() {
    let t = loaded(GOOD);
    assert_eq!(t.id, "10-a");
    assert_eq!((t.source.kind, t.target.kind), (SourceKind::RegularFile, TargetKind::RegularFile));
    assert_eq!(t.target.patterns, t.source.patterns);
    assert_eq!(t.target.instances_max, Some(3));
    assert!(t.is_enabled && t.verify && t.target.remove_temporary && !t.target.zero_fill);
}

#[test]
fn target_type_follows_source_type_and_path() {
    for (source, path, expected) in [
        ("regular-file", "/dev/sda", TargetKind::Partition),
        ("url-file", "/dst", TargetKind::RegularFile),
        ("url-tar", "/dst", TargetKind::Directory),
        ("directory", "/dst", TargetKind::Directory),
        ("subvolume", "/dst", TargetKind::Subvolume),
    ] {
        let url = if source.starts_with("url") { "https://example.com/" } else { "/src" };
        let text = format!(
            "[Source]\nType={source}\nPath={url}\nMatchPattern=a_@v\n[Target]\nPath={path}\n"
        );
        assert_eq!(loaded(&text).target.kind, expected, "{source}");
    }
}

#[test]
fn unusable_files_are_refused_with_file_and_line() {
    let source = "[Source]\nType=regular-file\nPath=/src\nMatchPattern=a_@v\n";
    for (text, expected) in [
        (
            "[X-Other]\n",
            "1: Source Type= must be one of url-file, url-tar, tar, regular-file, directory, subvolume.",
        ),
        ("[Source]\nType=partition\n", "2: Source Type= must be one of"),
        (
            &format!("{source}[Target]\nType=tar\nPath=/d\n"),
            "7: Target Type= must be one of partition,",
        ),
        (
            &format!("{source}[Target]\nPath=/d\nType=directory\n"),
            "7: Target type 'directory' is incompatible with source type 'regular-file', refusing.",
        ),
        (source, "1: Target specification lacks Path= field."),
        ("[Source]\nType=tar\n[Target]\nPath=/d\n", "2: Source specification lacks Path=."),
        ("[Source]\nType=tar\nPath=/s\n", "3: Source specification lacks MatchPattern=."),
        ("[Source]\nType=tar\nPath=s\n", "3: Source path is not a normalized, absolute path: s"),
        ("[Source]\nType=tar\nPath=/a/../s\n", "3: Source path is not a normalized, absolute path"),
        (
            "[Source]\nType=url-tar\nPath=ftp://x\n",
            "3: Source path is not a valid HTTP or HTTPS URL",
        ),
        (
            "[Source]\nType=tar\nPath=/s\nPathRelativeTo=explicit\n",
            "4: PathRelativeTo=explicit requires --transfer-source= to be specified.",
        ),
        (
            &format!("{source}[Target]\nPath=/d\nPathRelativeTo=explicit\n"),
            "7: PathRelativeTo=explicit can only be used in source specifications.",
        ),
        ("[Source]\nMatchPattern=a_@v $\n", "2: MatchPattern= string is not valid, refusing: $"),
        (
            &format!("{source}[Target]\nPath=/d\nMatchPattern=**/a_@v\n"),
            "7: '**/' prefix is only supported in a source MatchPattern=, refusing: **/a_@v",
        ),
        (
            "[Source]\nType=directory\nPath=/s\nMatchPattern=**/a_@v\n",
            "3: MatchPattern= with '**/' prefix is not supported",
        ),
        (
            &format!("{source}[Target]\nType=partition\nPath=/d\nCurrentSymlink=cur\n"),
            "1: Current symlink must be absolute path if target is partition: cur",
        ),
        (
            &format!("{source}[Target]\nPath=auto\n"),
            "6: Automatic root path discovery only supported",
        ),
        (
            &format!("{source}[Target]\nType=partition\nPath=/d\nPathRelativeTo=esp\n"),
            "8: Paths relative to esp are only allowed for regular-file or directory resources.",
        ),
    ] {
        let err = error(text);
        let expected = format!("/etc/sysupdate.d/10-a.transfer:{expected}");
        assert!(err.starts_with(&expected), "{text}\n{err}\n{expected}");
    }
}

#[test]
fn broken_values_are_ignored() {
    let t = loaded(&format!(
        "{GOOD}InstancesMax=1\nMode=9\nTriesLeft=x\nPartitionUUID=1\nPartitionFlags=g\nReadOnly=so\n\
         CurrentSymlink=../x\nNoSuchKey=1\n[Transfer]\nMinVersion=1,2\nProtectVersion=1 2\n\
         ProtectVersion=3\nProtectVersion=%A\nVerify=perhaps\nChangeLog=gopher://x\n[Nonsense]\nA=b\n"
    ));
    assert_eq!(t.target.instances_max, Some(2));
    assert_eq!(t.target.overrides, crate::format::pattern::Fields::default());
    assert_eq!((t.min_version, t.protect_versions), (None, vec!["3".to_owned()]));
    assert!(t.verify && t.change_log.is_empty() && t.target.current_symlink.is_none());
}

#[test]
fn values_are_understood() {
    let t = loaded(&format!(
        "{GOOD}Mode=4777\nTriesLeft=5\nPartitionFlags=0xf0\nReadOnly=yes\nPartitionNoAuto=no\n\
         InstancesMax=5\nRemoveTemporary=no\nCurrentSymlink=cur\nMatchPattern=b_@v c_@v\n\
         MatchPattern=d_@v\n[Transfer]\nVerify=no\nFeatures=a b\nFeatures=c\nRequisiteFeatures=d\n\
         RequisiteFeatures=\nChangeLog=https://example.com/@v\n"
    ));
    let o = &t.target.overrides;
    assert_eq!((o.mode, o.tries_left, o.partition_flags), (Some(0o4777), Some(5), Some(0xf0)));
    assert_eq!((o.read_only, o.no_auto, o.grow_fs), (Some(true), Some(false), None));
    assert_eq!(t.target.instances_max, Some(5));
    assert_eq!(t.target.current_symlink.as_deref(), Some("cur"));
    assert_eq!(t.target.patterns.len(), 3);
    assert!(!t.verify && !t.target.remove_temporary && !t.is_enabled);
    assert_eq!(t.features, ["a", "b", "c"]);
    assert!(t.requisite_features.is_empty());
}

#[test]
fn unknown_partition_type_is_remembered() {
    let text = |kind: &str| {
        GOOD.replace(
            "[Target]\n",
            &format!("[Target]\nType=partition\nMatchPartitionType={kind}\n"),
        )
    };
    let t = loaded(&text("nonsense"));
    assert!(t.target.is_partition_type_unknown);
    assert_eq!(t.target.instances_max, None);
    let t = loaded(&text("root-x86-64"));
    assert!(!t.target.is_partition_type_unknown);
    assert!(loaded(&text("root-x86-64-verity-sig")).target.zero_fill);
}

#[test]
fn four_directories_are_one_namespace_with_masks() {
    let tree = Tree::new(&[
        ("usr/lib/sysupdate.d/10-a.transfer", GOOD),
        ("usr/lib/sysupdate.d/30-c.transfer", GOOD),
        ("usr/lib/sysupdate.d/40-d.transfer", GOOD),
        ("run/sysupdate.d/20-b.transfer", GOOD),
        ("etc/sysupdate.d/30-c.transfer", ""),
        ("etc/sysupdate.d/99-old.conf", GOOD),
        ("etc/sysupdate.d/15-dir.transfer/x", ""),
        ("usr/local/lib/sysupdate.d/10-a.transfer.d/50.conf", "[Target]\nInstancesMax=7\n"),
        ("etc/sysupdate.d/10-a.transfer.d/60.conf", "[Target]\nMode=0600\n"),
    ]);
    std::os::unix::fs::symlink("/dev/null", tree.0.path().join("etc/sysupdate.d/40-d.transfer"))
        .unwrap();
    assert_eq!(tree.ids(), ["10-a", "20-b"]);
    let target = tree.load().unwrap().transfers.remove(0).target;
    assert_eq!((target.instances_max, target.overrides.mode), (Some(7), Some(0o600)));
}

#[test]
fn conf_files_count_only_where_there_are_no_transfer_files() {
    let tree = Tree::new(&[("etc/sysupdate.d/10-a.conf", GOOD)]);
    assert_eq!(tree.ids(), ["10-a"]);
    tree.write("usr/lib/sysupdate.d/20-b.transfer", GOOD);
    assert_eq!(tree.ids(), ["20-b"]);
}

#[test]
fn features_switch_transfers() {
    let with = |keys: &str| format!("{GOOD}[Transfer]\n{keys}\n");
    let tree = Tree::new(&[
        ("etc/sysupdate.d/a.transfer", &with("Features=on off")),
        ("etc/sysupdate.d/b.transfer", &with("Features=off unknown")),
        ("etc/sysupdate.d/c.transfer", &with("RequisiteFeatures=on off")),
        ("etc/sysupdate.d/d.transfer", &with("RequisiteFeatures=on")),
        ("etc/sysupdate.d/off.feature", "[Feature]\nDescription=Off\nSuggestOnHost=a\n"),
        ("usr/lib/sysupdate.d/on.feature", "[Feature]\nEnabled=no\n"),
        (
            &feature_dropin(None, "on").display().to_string()[1..],
            &dropin_text("enable-feature", "Feature", true),
        ),
    ]);
    let all = tree.load().unwrap();
    let enabled: Vec<_> = all.transfers.iter().map(|t| t.is_enabled).collect();
    assert_eq!(enabled, [true, false, false, true]);
    assert_eq!(all.transfers_of("off").collect::<Vec<_>>(), ["a", "b", "c"]);
    let off = all.feature("off").unwrap();
    let on_host = Suggestion { name: "Host".to_owned(), value: "a".to_owned() };
    assert_eq!((off.description.as_deref(), &off.suggest_on), (Some("Off"), &vec![on_host]));
}

#[test]
fn components_are_directories_and_on_by_default() {
    let tree = Tree::new(&[
        ("usr/lib/sysupdate.web.d/a.transfer", GOOD),
        ("run/sysupdate.db.d/x", ""),
        ("etc/sysupdate.web.component.d/50.conf", "[Component]\nEnabled=no\n"),
        ("usr/lib/sysupdate.web.component", "[Component]\nDescription=Web\n"),
        ("etc/sysupdate.d/x", ""),
        ("etc/sysupdate.file.d", ""),
    ]);
    let ctx = tree.ctx();
    assert_eq!(components(&ctx).unwrap(), ["db", "web"]);
    let web = load_component(&ctx, "web").unwrap();
    assert_eq!((web.description.as_deref(), web.is_enabled), (Some("Web"), false));
    assert!(load_component(&ctx, "db").unwrap().is_enabled);
    let origin = Origin::of_component(Some("web".to_owned()));
    assert_eq!(load(&ctx, &origin, false).unwrap().transfers.len(), 1);
    for (name, is_good) in
        [("a", true), ("a.component", false), ("", false), ("..", false), ("a/b", false)]
    {
        assert_eq!(is_component_name(name), is_good, "{name}");
    }
}

#[test]
fn nothing_defined_is_an_error_where_something_is_needed() {
    let tree = Tree::new(&[]);
    let origin = Origin::default();
    let err = tree.load().unwrap().require(&origin, false).unwrap_err();
    assert_eq!(
        (err.to_string().as_str(), err.errno()),
        ("No transfer definitions found.", Some(2))
    );
    let off = format!("{GOOD}[Transfer]\nFeatures=f\n");
    let tree = Tree::new(&[("etc/sysupdate.d/a.transfer", &off)]);
    let all = tree.load().unwrap();
    assert!(all.require(&origin, false).is_ok() && all.require(&origin, true).is_err());
}
