//! Who may call what, without a bus and without polkit.
//!
//! Root and the user the service runs as may do everything. For everybody else the administrator
//! writes `/etc/slipway/varlink.policy`: lines `METHOD = WHO…`, where METHOD is a qualified name,
//! `INTERFACE.*`, or, where a service offers that, `METHOD:DETAIL` for some uses of a method only,
//! and WHO is any of `root`, `uid:N`, `gid:N`, `group:NAME`, `any`. What no line allows is refused.
//! A line that makes no sense allows nothing and is warned about.
//!
//! DIFFERS: the peer asks polkit over the system bus and fails without one.

use std::io::ErrorKind;

use super::errors::permission_denied;
use super::server::Peer;
use crate::ctx::Ctx;
use crate::error::Result;

/// Where the administrator's rules are.
pub const FILE: &str = "/etc/slipway/varlink.policy";

/// LIMIT: bytes of rules.
const MAX_SIZE: u64 = 1 << 20;

/// Refuses a call that nobody allowed, for all uses of the method or for this one.
pub fn authorize(ctx: &Ctx, peer: Peer, method: &str, detail: Option<&str>) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    if peer.uid == 0 || peer.uid == own {
        return Ok(());
    }
    if read(ctx, FILE).is_some_and(|text| allows(ctx, &text, peer, method, detail)) {
        return Ok(());
    }
    Err(permission_denied())
}

fn read(ctx: &Ctx, path: &str) -> Option<String> {
    use std::io::Read;
    let open = |path: &std::path::Path| {
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_SIZE).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    match open(&ctx.at(path)) {
        Ok(text) => Some(text),
        Err(err) if err.kind() == ErrorKind::NotFound => None,
        Err(err) => {
            log::warn!("Failed to read '{path}', ignoring: {err}");
            None
        }
    }
}

fn allows(ctx: &Ctx, text: &str, peer: Peer, method: &str, detail: Option<&str>) -> bool {
    let interface = method.rsplit_once('.').map_or("", |(interface, _)| interface);
    let mut allowed = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let Some((name, who)) = line.split_once('=') else {
            log::warn!("{FILE}:{}: Missing '=', ignoring line.", index + 1);
            continue;
        };
        let name = name.trim();
        let is_use = || detail.is_some() && name.split_once(':') == detail.map(|d| (method, d));
        if name != method && name.strip_suffix(".*") != Some(interface) && !is_use() {
            continue;
        }
        for word in who.split(|c: char| c.is_whitespace() || matches!(c, ',' | '|')) {
            match word {
                "" => {}
                word => match is_meant(ctx, word, peer) {
                    Some(is_meant) => allowed |= is_meant,
                    None => log::warn!("{FILE}:{}: Unknown rule '{word}', ignoring.", index + 1),
                },
            }
        }
    }
    allowed
}

/// Does a rule mean this peer? `None` where it is no rule.
fn is_meant(ctx: &Ctx, rule: &str, peer: Peer) -> Option<bool> {
    match rule.split_once(':') {
        None if rule == "any" => Some(true),
        None if rule == "root" => Some(peer.uid == 0),
        Some(("uid", uid)) => uid.parse::<u32>().ok().map(|uid| uid == peer.uid),
        Some(("gid", gid)) => gid.parse::<u32>().ok().map(|gid| gid == peer.gid),
        Some(("group", name)) if !name.is_empty() => Some(is_member(ctx, name, peer)),
        _ => None,
    }
}

/// Is the peer's user in a group of `/etc/group`? There is no name service in a static program.
fn is_member(ctx: &Ctx, group: &str, peer: Peer) -> bool {
    let groups = read(ctx, "/etc/group").unwrap_or_default();
    let Some(line) = groups.lines().find(|line| line.split(':').next() == Some(group)) else {
        return false;
    };
    let fields: Vec<&str> = line.split(':').collect();
    let gid = fields.get(2).and_then(|gid| gid.parse::<u32>().ok());
    if gid == Some(peer.gid) {
        return true;
    }
    let users = read(ctx, "/etc/passwd").unwrap_or_default();
    let uid = peer.uid.to_string();
    let user = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    });
    let members = fields.get(3).copied().unwrap_or_default();
    user.is_some_and(|user| members.split(',').any(|member| member == user))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger() -> Peer {
        let own = rustix::process::geteuid().as_raw();
        Peer { uid: own + 1000, gid: 2000, pid: 1 }
    }

    fn world(policy: &str) -> (tempfile::TempDir, Ctx) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/slipway")).unwrap();
        std::fs::write(dir.path().join("etc/slipway/varlink.policy"), policy).unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nops:x:50:eve,kim\nown:x:2000:\n")
            .unwrap();
        let passwd = format!("root:x:0:0::/:\nkim:x:{}:1::/:\n", stranger().uid);
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        let ctx = Ctx::host([]).with_root(dir.path());
        (dir, ctx)
    }

    #[test]
    fn strangers_need_a_line_and_root_does_not() {
        let peer = stranger();
        let uid = format!("a.b.C = uid:{}", peer.uid);
        for (policy, allowed) in [
            ("", false),
            ("a.b.C = any", true),
            ("a.b.* = any # all of it", true),
            ("a.* = any", false),
            ("a.b.D = any", false),
            ("a.b.C = root", false),
            ("a.b.C = root | gid:2000", true),
            ("a.b.C = group:ops", true),
            ("a.b.C = group:own", true),
            ("a.b.C = group:root", false),
            ("a.b.C = everybody", false),
            ("a.b.C any", false),
            (uid.as_str(), true),
        ] {
            let (_dir, ctx) = world(policy);
            assert_eq!(authorize(&ctx, peer, "a.b.C", None).is_ok(), allowed, "{policy}");
        }
        let (_dir, ctx) = world("");
        assert!(authorize(&ctx, Peer { uid: 0, ..peer }, "a.b.C", None).is_ok());
        let error = authorize(&ctx, peer, "a.b.C", None).unwrap_err();
        assert_eq!(error.varlink().unwrap().0, "org.varlink.service.PermissionDenied");
    }

    #[test]
    fn without_a_policy_file_strangers_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Ctx::host([]).with_root(dir.path());
        assert!(authorize(&ctx, stranger(), "a.b.C", None).is_err());
    }

    #[test]
    fn rule_for_one_use_allows_that_use_only() {
        let (_dir, ctx) = world("a.b.C:zone = any\na.b.D: = any\n");
        let is_allowed = |method, detail| authorize(&ctx, stranger(), method, detail).is_ok();
        assert!(is_allowed("a.b.C", Some("zone")));
        assert!(!is_allowed("a.b.C", Some("region")) && !is_allowed("a.b.C", None));
        assert!(!is_allowed("a.b.D", None) && !is_allowed("a.b.D", Some("zone")));
    }
}
