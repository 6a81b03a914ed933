//! `repart` grows and adds partitions, and builds disk images.
//!
//! Why: an image is written once and finds itself on disks of all sizes; definitions say what is
//! to be there, and this applet adds what is missing, from the initrd or when an image is built.
//! It says what it is going to do before it does it, and does nothing unless told so.
//!
//! - Stands in for: `systemd-repart`
//! - Reads: `repart.d` in `/etc`, `/run`, `/usr/local/lib`, `/usr/lib`; what the definitions copy.
//!   Writes: the disk; files beside an image (`--split=`), fstab and crypttab on request
//! - Exit status: 0 done or nothing to do; 1 failure, usage error, `--can-factory-reset`: no;
//!   76 no disk was found; 77 the disk's label is not one to work on

mod args;
mod devices;
mod keys;
mod options;
mod screen;
mod serve;
mod value;

use ::slipway::disk::Access;
use ::slipway::disk::dissect::mounted::{self, MountedImage};
use ::slipway::error::{Error, Result};
use ::slipway::fs::undo;
use ::slipway::notify::Notifier;
use ::slipway::repart::initrd;
use ::slipway::repart::model::Options;
use ::slipway::repart::run::{self, Ending, Watchers};
use ::slipway::sys::signal;

use self::args::Args;
use self::screen::{Screen, Teller};
use crate::app::{App, Applet};
use crate::cli::{self, Command};

/// Row of the applet table.
pub(crate) static APPLET: Applet = Applet {
    names: &["repart", "systemd-repart"],
    about: "Grow and add partitions, build disk images",
    compat: Some("systemd-repart"),
    manual: include_str!("manual.md"),
    section: 8,
    is_server: false,
    cli: command,
    run,
    serve: Some(serve::serve),
};

fn command() -> Command {
    Command::of::<Args>()
        .usage(&["[OPTION…] [DEVICE]"])
        .shorthand('n', &["--dry-run=yes"], "As --dry-run=yes", "dry-run")
        .shorthand('P', &["--make-ddi=portable"], "As --make-ddi=portable", "make-ddi")
        .shorthand('C', &["--make-ddi=confext"], "As --make-ddi=confext", "make-ddi")
        .shorthand('S', &["--make-ddi=sysext"], "As --make-ddi=sysext", "make-ddi")
        .values("empty", &["refuse", "allow", "require", "force", "create"])
        .values("offline", &["yes", "no", "auto"])
        .values("cow", &["yes", "no", "auto"])
        .values("make-ddi", &["sysext", "confext", "portable"])
        .values("append-fstab", &["no", "auto", "replace"])
}

fn run(app: &mut App) -> Result<u8> {
    let args: Args = cli::parse(app)?;
    if args.tpm2_device.as_deref() == Some("list") {
        return devices::list_tpms(app);
    }
    if args.list_devices {
        return devices::list(app);
    }
    let mut options = options::of(&args)?;
    end_in_good_order(&options);
    let mut mounted = None;
    enter(app, &args, &mut options, &mut mounted)?;
    let result = partition(app, &args, &options);
    let status = result.as_ref().map_or_else(Error::status, |status| *status);
    Notifier::from_ctx(&app.ctx).exit_status(status);
    drop(mounted);
    result
}

/// Nothing is left behind where somebody ends the run: by a signal, or by not reading what it says.
fn end_in_good_order(options: &Options) {
    if let Err(err) = signal::before_end(undo::undo_all) {
        log::debug!("Cannot wait for signals: {err}");
    }
    if !options.is_dry_run {
        signal::set_pipe_ends_process(false);
    }
}

/// Makes the tree of `--root=` or `--image=` the one to work on.
fn enter(
    app: &mut App,
    args: &Args,
    options: &mut Options,
    mounted: &mut Option<MountedImage>,
) -> Result<()> {
    if let Some(root) = args.root() {
        let root = std::fs::canonicalize(root)
            .map_err(|err| Error::because("Failed to enumerate *.conf files", err))?;
        app.ctx = app.ctx.clone().with_root(root);
    } else if let Some(image) = args.image() {
        let path = std::fs::canonicalize(image).map_err(|err| {
            let image = options::absolute(image).unwrap_or_else(|_| image.to_path_buf());
            Error::because(format!("Failed to set up loopback device for {}", image.display()), err)
        })?;
        let policy = args.image_policy.clone().unwrap_or_default();
        let tree = mounted::mount(&path, Access::Read, &policy)?;
        app.ctx = app.ctx.clone().with_image(path, tree.root());
        *mounted = Some(tree);
    } else if let Some(root) = initrd::root(&app.ctx).filter(|_| !args.has_root()) {
        app.ctx = app.ctx.clone().with_root(root);
        options.is_root_found = true;
    }
    Ok(())
}

fn partition(app: &App, args: &Args, options: &Options) -> Result<u8> {
    let (screen, teller) = (Screen::new(app, args), Teller::new(app));
    let watchers = Watchers { sink: &screen, observer: &teller };
    match run::run(&app.ctx, options, watchers)? {
        Ending::MinimalSize(_) | Ending::CanReset(true) | Ending::Done(_) => Ok(0),
        // No is a failure without a word.
        Ending::CanReset(false) => Ok(1),
    }
}
