//! `update` brings an operating system, or a component of it, to another version.
//!
//! Why: an image based system is updated as a whole, by putting the next version beside the
//! running one. This applet says which versions there are, acquires and installs one, and gives
//! up old ones; what to do where stands in transfer files.
//!
//! - Stands in for: `systemd-sysupdate`
//! - Reads: `sysupdate.d`, `sysupdate.*.d`, `sysupdate.*.component` in `/etc`, `/run`,
//!   `/usr/local/lib`, `/usr/lib`; sources and targets. Writes: targets, drop-ins in `/etc`,
//!   `/var/lib/systemd/sysupdate`
//! - Exit status: 0 done or nothing to do; 1 failure, usage error, `check-new`: nothing new,
//!   `pending`: nothing newer is installed

mod apply;
mod list;
mod serve;
mod switch;

use std::path::PathBuf;

use ::slipway::disk::Access;
use ::slipway::disk::dissect::{Policy, mounted};
use ::slipway::error::{Error, Result};
use ::slipway::notify::Notifier;
use ::slipway::out::json::Mode;
use ::slipway::update::definitions::{Origin, is_component_name};
use ::slipway::update::job::EngineOptions;
use ::slipway::update::session::{Session, Settings};
use argh::{ArgsInfo, FromArgs};

use crate::app::{App, Applet};
use crate::cli::{self, Command, Verb};

/// Row of the applet table.
pub(crate) static APPLET: Applet = Applet {
    names: &["update", "systemd-sysupdate", "sysupdate"],
    about: "Bring the system to another version",
    compat: Some("systemd-sysupdate"),
    manual: include_str!("manual.md"),
    section: 8,
    is_server: false,
    cli: || Command::of::<Args>().usage(&["[OPTION…] COMMAND …"]).verbs(VERBS),
    run,
    serve: Some(serve::serve),
};

/// Bring the system, or a component of it, to another version.
#[derive(FromArgs, ArgsInfo)]
#[argh(help_triggers("-h", "--help"))]
struct Args {
    /// work on this component instead of the system
    #[argh(option, short = 'C', arg_name = "NAME")]
    component: Option<String>,
    /// work on the system and on every component
    #[argh(switch, short = 'A')]
    component_all: bool,
    /// work on the components suggested for this machine
    #[argh(switch, short = 'S')]
    component_suggested: bool,
    /// all features there are
    #[argh(switch, short = 'a')]
    feature_all: bool,
    /// all features suggested for this machine
    #[argh(switch, short = 's')]
    feature_suggested: bool,
    /// read the definitions from here and nowhere else
    #[argh(option, arg_name = "DIR", from_str_fn(cli::path))]
    definitions: Option<PathBuf>,
    /// work on the system in this directory
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    root: Option<PathBuf>,
    /// work on the system in this disk image
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    image: Option<PathBuf>,
    /// what to mount of the image
    #[argh(option, arg_name = "POLICY")]
    image_policy: Option<String>,
    /// where paths of sources relative to it begin
    #[argh(option, arg_name = "PATH", from_str_fn(cli::path))]
    transfer_source: Option<PathBuf>,
    /// keep no more versions than this
    #[argh(option, short = 'm', arg_name = "INT", from_str_fn(count))]
    instances_max: Option<u64>,
    /// wait until what was written is safe (default: yes)
    #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
    sync: Option<bool>,
    /// ask for signatures or not, whatever definitions say
    #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
    verify: Option<bool>,
    /// afterwards reboot, if that leads to something newer
    #[argh(switch)]
    reboot: bool,
    /// ask no source; work with what is on this machine
    #[argh(switch)]
    offline: bool,
    /// afterwards remove what no definition owns any more
    #[argh(option, arg_name = "BOOL", from_str_fn(cli::boolean))]
    cleanup: Option<bool>,
    /// print what would be done and change nothing
    #[argh(switch)]
    dry_run: bool,
    /// accepted; there is no pager
    #[argh(switch)]
    #[expect(dead_code, reason = "accepted as the peer does; we never start one")]
    no_pager: bool,
    /// print tables without heading and summary
    #[argh(switch)]
    no_legend: bool,
    /// print JSON: pretty, short or off
    #[argh(option, arg_name = "FORMAT", from_str_fn(cli::json_mode), default = "Mode::Off")]
    json: Mode,
    /// verb and operands
    #[argh(positional, greedy, hidden_help)]
    words: Vec<String>,
}

static VERBS: &[Verb<Args>] = &[
    Verb::new("list", "Tell which versions there are", list::list)
        .operands("[VERSION]")
        .words(0, 2)
        .default(),
    Verb::new("features", "Tell which optional parts there are", list::features)
        .operands("[FEATURE]")
        .words(0, 2),
    Verb::new("enable-feature", "Switch optional parts on", switch::enable_feature)
        .operands("FEATURE…")
        .words(1, 0),
    Verb::new("disable-feature", "Switch optional parts off", switch::disable_feature)
        .operands("FEATURE…")
        .words(1, 0),
    Verb::new("check-new", "Tell whether there is something newer", list::check_new).words(0, 1),
    Verb::new("update", "Fetch a version and put it in place", apply::update)
        .operands("[VERSION]")
        .words(0, 2),
    Verb::new("acquire", "Fetch a version, to be put in place later", apply::acquire)
        .operands("[VERSION]")
        .words(0, 2),
    Verb::new("vacuum", "Remove leftovers and versions above the limit", apply::vacuum).words(0, 1),
    Verb::new("cleanup", "Remove files that no definition owns any more", apply::cleanup)
        .words(0, 1),
    Verb::new("pending", "Tell whether what is in place is newer than what runs", apply::pending)
        .words(1, 1),
    Verb::new("reboot", "Reboot, if that leads to something newer", apply::reboot).words(1, 1),
    Verb::new("components", "Tell which components there are", list::components).words(0, 1),
    Verb::new("enable-component", "Switch components on", switch::enable_component)
        .operands("COMPONENT…")
        .words(1, 0),
    Verb::new("disable-component", "Switch components off", switch::disable_component)
        .operands("COMPONENT…")
        .words(1, 0),
];

fn run(app: &mut App) -> Result<u8> {
    let args: Args = cli::parse(app)?;
    check(&args)?;
    let policy = match &args.image_policy {
        Some(text) => Policy::parse(text)?,
        None => Policy::default(),
    };
    let mut mounted = None;
    if let Some(root) = &args.root {
        app.ctx = enter(app, root)?;
    } else if let Some(image) = &args.image
        && let Some(access) = args.image_access()
    {
        let path = std::fs::canonicalize(image).map_err(|err| {
            Error::because(format!("Failed to open disk image '{}'", image.display()), err)
        })?;
        let tree = mounted::mount(&path, access, &policy)?;
        app.ctx = app.ctx.clone().with_image(path, tree.root());
        mounted = Some(tree);
    }
    let result = cli::dispatch_verb(app, VERBS, &args, &args.words);
    let status = result.as_ref().map_or_else(Error::status, |status| *status);
    Notifier::from_ctx(&app.ctx).exit_status(status);
    drop(mounted);
    result
}

/// `--instances-max=`.
fn count(value: &str) -> Result<u64, String> {
    ::slipway::conf::value::unsigned(value)
        .map_err(|_| format!("Failed to parse {{option}}= parameter: {value}"))
}

/// Refuses what does not go together.
fn check(args: &Args) -> Result<()> {
    let is_elsewhere = args.root.is_some() || args.image.is_some();
    let text = if args.root.is_some() && args.image.is_some() {
        "Please specify either --root= or --image=, the combination of both is not supported."
    } else if is_elsewhere && args.reboot {
        "The --reboot switch may not be combined with --root= or --image=."
    } else if is_elsewhere && args.definitions.is_some() {
        "The --definitions= switch may not be combined with --root= or --image=."
    } else if args.selects_components() && args.reboot {
        "The --reboot switch may not be combined with \
         --component=/--component-all/--component-suggested, as automatic reboots only apply to \
         the booted OS version."
    } else if args.selects_components() && args.definitions.is_some() {
        "The --definitions= and --component=/--component-all/--component-suggested switches may \
         not be combined."
    } else {
        return check_values(args);
    };
    Err(Error::new(text).with_errno(22))
}

fn check_values(args: &Args) -> Result<()> {
    if let Some(name) = args.component()
        && !is_component_name(name)
    {
        let text = format!("Component name invalid: {}", cli::printable(name));
        return Err(Error::new(text).with_errno(22));
    }
    Ok(())
}

/// The tree that `--root=` names; it must be there.
fn enter(app: &App, root: &std::path::Path) -> Result<::slipway::ctx::Ctx> {
    let path = std::fs::canonicalize(root).map_err(|err| {
        Error::because(format!("Failed to open root directory '{}'", root.display()), err)
    })?;
    Ok(app.ctx.clone().with_root(path))
}

impl Args {
    /// The component that was named; an empty name means none.
    fn component(&self) -> Option<&str> {
        self.component.as_deref().filter(|name| !name.is_empty())
    }

    /// What an image is mounted for; none for verbs that refuse images.
    fn image_access(&self) -> Option<Access> {
        match self.words.first().map_or("list", String::as_str) {
            "pending" | "reboot" => None,
            "list" | "check-new" | "features" | "components" => Some(Access::Read),
            _ if self.dry_run => Some(Access::Read),
            _ => Some(Access::Write),
        }
    }

    fn selects_components(&self) -> bool {
        self.component().is_some() || self.component_all || self.component_suggested
    }

    fn origin(&self) -> Origin {
        // An empty directory means the standard ones, as in the peer.
        let directory = self.definitions.clone().filter(|dir| !dir.as_os_str().is_empty());
        Origin { directory, component: self.component().map(str::to_owned) }
    }

    fn session(&self, app: &App) -> Session {
        let settings = Settings {
            transfer_source: self.transfer_source.clone(),
            verify: self.verify,
            instances_max: self.instances_max,
            is_offline: self.offline,
        };
        let engine = EngineOptions::new(self.sync.unwrap_or(true));
        Session::new(&app.ctx, self.origin(), settings, engine)
    }

    /// For verbs that work on one target and know nothing of features to select.
    fn refuse_many(&self, verb: &str) -> Result<()> {
        self.refuse_feature_switches(verb)?;
        if self.component_all || self.component_suggested {
            return Err(Error::new(format!(
                "--component-all/--component-suggested currently not supported for '{verb}'."
            ))
            .with_errno(95));
        }
        Ok(())
    }

    /// For verbs that work on all components, but not on the suggested ones.
    fn refuse_suggested(&self, verb: &str) -> Result<()> {
        self.refuse_feature_switches(verb)?;
        if self.component_suggested {
            return Err(Error::new(format!(
                "--component-suggested currently not supported for '{verb}'."
            ))
            .with_errno(95));
        }
        Ok(())
    }

    fn refuse_feature_switches(&self, verb: &str) -> Result<()> {
        if self.feature_all || self.feature_suggested {
            return Err(Error::new(format!(
                "--feature-all/--feature-suggested is not supported for '{verb}'."
            ))
            .with_errno(95));
        }
        Ok(())
    }

    fn refuse_dry_run(&self, verb: &str) -> Result<()> {
        if self.dry_run {
            let text = format!("--dry-run is not supported for '{verb}'.");
            return Err(Error::new(text).with_errno(95));
        }
        Ok(())
    }

    fn refuse_definitions(&self, verb: &str) -> Result<()> {
        if self.definitions.is_some() {
            let text = format!("The --definitions= switch may not be combined with '{verb}'.");
            return Err(Error::new(text).with_errno(95));
        }
        Ok(())
    }
}
