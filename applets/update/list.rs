//! Verbs that look and change nothing: `list`, `check-new`, `features`, `components`.

use ::slipway::error::{Error, Result};
use ::slipway::format::pattern::Fields;
use ::slipway::out::table::{Align, Cell, Custom, Table};
use ::slipway::out::{Color, glyph::Glyph};
use ::slipway::update::definitions::{self, Feature, Origin};
use ::slipway::update::model::{Entry, TargetKind};
use ::slipway::update::plan;
use ::slipway::update::report::{self, Content};
use ::slipway::update::run;
use ::slipway::update::session::{Need, Session};
use ::slipway::update::sets::{self, Flags, Mark, UpdateSet, UpdateSets};
use serde_json::{Value, json};

use super::Args;
use crate::app::App;
use crate::cli;

/// `list [VERSION]`.
pub(super) fn list(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    args.refuse_many("list")?;
    let session = args.session(app);
    let entries = run::survey(&session)?;
    let members = plan::members(&entries);
    let sets = sets::compute(&members);
    match operands.first() {
        Some(version) => {
            let found = sets.find(version).map(|(_, set)| set).ok_or_else(|| {
                Error::new(format!("Update '{}' not found.", cli::printable(version))).with_errno(2)
            })?;
            show_version(app, args, &entries, found)?;
        }
        None if args.json.is_on() => app.out.json(args.json, &report::list(&sets, &entries))?,
        None => show_versions(app, args, &sets)?,
    }
    Ok(0)
}

fn show_versions(app: &App, args: &Args, sets: &UpdateSets<'_>) -> Result<()> {
    let mut table = Table::new(&["", "version", "installed", "available", "assessment"]);
    table.set_align(0, Align::Right);
    table.set_align(2, Align::Center);
    table.set_align(3, Align::Center);
    let check = app.out.glyph(Glyph::CheckMark);
    let tick = |is_there: bool| Cell::from(if is_there { check } else { "" });
    for set in &sets.sets {
        let (text, mark) = set.flags.assessment();
        let (glyph, color) = look(app, mark);
        table.row([
            Cell::from(glyph).colored(color),
            Cell::from(set.version).colored(color),
            tick(set.flags.installed).colored(color),
            tick(set.flags.available).colored(color),
            Cell::from(text).colored(color),
        ]);
    }
    app.out.table(&table, args.json, !args.no_legend)
}

/// How a mark looks.
fn look(app: &App, mark: Mark) -> (&'static str, Option<Color>) {
    let (glyph, color) = match mark {
        Mark::Obsolete => (Glyph::MultiplicationSign, Color::HighlightRed),
        Mark::Moving | Mark::Candidate => {
            let is_moving = mark == Mark::Moving;
            let glyph = if is_moving { Glyph::Download } else { Glyph::CircleArrow };
            (glyph, Color::HighlightYellow)
        }
        Mark::Current => (Glyph::BlackCircle, Color::HighlightGreen),
        Mark::Protected => (Glyph::WhiteCircle, Color::HighlightGreen),
        Mark::Plain => return ("", None),
    };
    (app.out.glyph(glyph), Some(color))
}

fn show_version(app: &App, args: &Args, entries: &[Entry], set: &UpdateSet<'_>) -> Result<()> {
    let contents = report::contents(set, entries);
    let table = contents_table(entries, &contents);
    if args.json.is_on() {
        let value = report::version(set, entries, table.to_json());
        return app.out.json(args.json, &value);
    }
    let (text, mark) = set.flags.assessment();
    let (glyph, color) = look(app, mark);
    let glyph = if glyph.is_empty() { " " } else { glyph };
    let colors = app.out.facts().colors;
    let paint = |text: &str| color.map_or_else(|| text.to_owned(), |c| colors.paint(c, text));
    let head = format!(
        "{} Version: {}\n    State: {}\nInstalled: {}\nAvailable: {}\nProtected: {}\n Obsolete: {}\n",
        paint(glyph),
        set.version,
        paint(&text),
        installed_text(set.flags),
        available_text(set.flags),
        yes_no(set.flags.protected),
        yes_no(set.flags.obsolete),
    );
    app.out.print(&head)?;
    for url in report::change_logs(set, entries) {
        app.out.line(&format!("ChangeLog: {}", cli::printable(&url)))?;
    }
    app.out.line("")?;
    app.out.table(&table, args.json, !args.no_legend)
}

fn yes_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

/// `newest` belongs to what is installed, if something is.
fn installed_text(f: Flags) -> String {
    let mut text = yes_no(f.installed).to_owned();
    for (flag, word) in [
        (f.installed && f.newest, " (newest)"),
        (f.incomplete, " (incomplete)"),
        (f.pending, " (pending)"),
        (f.partial, " (partial)"),
    ] {
        if flag {
            text.push_str(word);
        }
    }
    text
}

fn available_text(f: Flags) -> String {
    let newest = if f.available && f.newest && !f.installed { " (newest)" } else { "" };
    format!("{}{newest}", yes_no(f.available))
}

fn contents_table<'a>(entries: &[Entry], contents: &'a [Content<'_>]) -> Table<'a> {
    const TITLES: [&str; 13] = [
        "type",
        "path",
        "ptuuid",
        "ptflags",
        "mtime",
        "mode",
        "size",
        "tries-done",
        "tries-left",
        "noauto",
        "ro",
        "growfs",
        "sha256",
    ];
    let mut table = Table::new(&TITLES).with_filler("-");
    for (column, title) in TITLES.iter().enumerate() {
        table.set_json_name(column, title);
        if (3..=8).contains(&column) {
            table.set_align(column, Align::Right);
        }
    }
    for content in contents {
        let f = &content.instance.fields;
        let flag = |flag: Option<bool>| Cell::option(flag, Cell::Bool).into();
        table.row([
            content.kind.into(),
            content.path.as_str().into(),
            Cell::option(f.partition_uuid, |uuid| uuid.to_string().into()).into(),
            Cell::option(f.partition_flags, |flags| {
                Cell::Custom(Box::new(Custom { text: format!("{flags:x}"), json: flags.into() }))
            })
            .into(),
            Cell::option(f.mtime_usec, Cell::Timestamp).into(),
            Cell::option(f.mode, Cell::Mode).into(),
            Cell::option(f.size_bytes, Cell::Size).into(),
            Cell::option(f.tries_done, Cell::Uint).into(),
            Cell::option(f.tries_left, Cell::Uint).into(),
            flag(f.no_auto),
            flag(f.read_only),
            flag(f.grow_fs),
            Cell::option(f.sha256, |hash| hex(&hash).into()).into(),
        ]);
    }
    // Pairs come and go together: those of partitions, of files, of boot attempts. Those of files
    // are not shown of a source whose target is a partition.
    let is_file = |e: &Entry| e.transfer.target.kind != TargetKind::Partition;
    let has_files = entries.iter().any(|e| e.transfer.is_enabled && is_file(e));
    let any = |has: fn(&Fields) -> bool| contents.iter().any(|c| has(&c.instance.fields));
    for (columns, is_shown) in [
        ([2, 3], any(|f| f.partition_uuid.is_some() || f.partition_flags.is_some())),
        ([4, 5], has_files && any(|f| f.mtime_usec.is_some() || f.mode.is_some())),
        ([7, 8], any(|f| f.tries_done.is_some() || f.tries_left.is_some())),
    ] {
        if !is_shown {
            columns.iter().for_each(|column| table.hide(*column));
        }
    }
    for column in [6, 9, 10, 11, 12] {
        table.hide_if_empty(column);
    }
    table
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `check-new`: 0 and the version, or 1.
pub(super) fn check_new(app: &mut App, args: &Args, _: &[String]) -> Result<u8> {
    args.refuse_many("check-new")?;
    let session = args.session(app);
    let entries = run::survey(&session)?;
    let members = plan::members(&entries);
    let sets = sets::compute(&members);
    let candidate = sets.candidate().map(|set| set.version);
    if args.json.is_on() {
        app.out.json(args.json, &json!({ "available": candidate }))?;
    } else if let Some(version) = candidate {
        app.out.line(version)?;
    } else {
        log::debug!("No candidate found.");
    }
    Ok(u8::from(candidate.is_none()))
}

/// `features [FEATURE]`.
pub(super) fn features(app: &mut App, args: &Args, operands: &[String]) -> Result<u8> {
    args.refuse_many("features")?;
    let session = args.session(app);
    let all = session.definitions(Need::Any)?;
    if let Some(id) = operands.first() {
        let feature = all.feature(id).ok_or_else(|| {
            Error::new(format!("Optional feature not found: {}", cli::printable(id))).with_errno(2)
        })?;
        let value = report::feature(feature, &all, &app.ctx);
        if args.json.is_on() {
            app.out.json(args.json, &value)?;
        } else {
            show_feature(app, args, feature, &value)?;
        }
        return Ok(0);
    }
    if args.json.is_on() {
        let ids: Vec<&str> = all.features.iter().map(|f| f.id.as_str()).collect();
        app.out.json(args.json, &json!({ "features": ids }))?;
        return Ok(0);
    }
    let mut table = switch_table("feature");
    append(app, args, &mut table, &all.features);
    app.out.table(&table, args.json, !args.no_legend)?;
    match all.features.len() {
        _ if args.no_legend => {}
        0 => log::info!("No features."),
        count => app.out.print(&format!("\n{count} features listed.\n"))?,
    }
    Ok(0)
}

fn show_feature(app: &App, args: &Args, feature: &Feature, value: &Value) -> Result<()> {
    let mut table = Table::vertical();
    table.field("Name", Cell::from(feature.id.as_str()));
    table.field("Enabled", Cell::Bool(feature.is_enabled));
    if let Some(is_suggested) = value["suggested"].as_bool() {
        table.field("Suggested", Cell::Bool(is_suggested));
    }
    if let Some(description) = &feature.description {
        table.field("Description", Cell::from(description.as_str()));
    }
    if !feature.documentation.is_empty() {
        table.field("Documentation", Cell::Words(feature.documentation.as_slice().into()));
    }
    if let Some(url) = &feature.app_stream {
        table.field("AppStream", Cell::from(url.as_str()));
    }
    if let Some(transfers) = value["transfers"].as_array() {
        let ids = transfers.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        table.field("Transfers", Cell::Lines(ids));
    }
    if !args.no_legend {
        // The peer shows the titles of a list that has none of its own.
        let text = table.to_text(&::slipway::out::table::Look::of(app.out.facts(), true));
        let width = text.lines().filter_map(|line| line.find(':')).max().unwrap_or(0) + 1;
        app.out.line(&format!("{:>width$} VALUE", "KEY"))?;
    }
    app.out.table(&table, args.json, !args.no_legend)
}

/// A table of features or components with their switches.
fn switch_table(what: &str) -> Table<'static> {
    Table::new(&["enabled", "suggested", what, "description", "documentation"]).with_filler("-")
}

fn append<'a>(app: &App, args: &Args, table: &mut Table<'a>, features: &'a [Feature]) {
    // COMPAT(262): without titles every row is one line.
    let urls = |list: &[String]| {
        let list = list.into();
        if args.no_legend { Cell::Words(list) } else { Cell::Lines(list) }
    };
    for feature in features {
        let suggested = match report::is_suggested(feature, &app.ctx) {
            Ok(is_suggested) => Cell::Check(is_suggested),
            Err(err) => {
                let id = &feature.id;
                log::debug!("Failed to determine whether '{id}' is suggested, ignoring: {err}");
                Cell::Empty
            }
        };
        let color = if feature.is_enabled { Color::HighlightGreen } else { Color::HighlightRed };
        table.row([
            Cell::Check(feature.is_enabled).colored(color),
            suggested.into(),
            feature.id.as_str().into(),
            Cell::from(feature.description.as_deref()).into(),
            urls(&feature.documentation).into(),
        ]);
    }
}

/// True if there is a target without a name: transfers of the operating system itself.
fn has_default(session: &Session) -> Result<bool> {
    let session = session.with_origin(Origin::default());
    Ok(!session.definitions(Need::Nothing)?.transfers.is_empty())
}

/// `components`.
pub(super) fn components(app: &mut App, args: &Args, _: &[String]) -> Result<u8> {
    args.refuse_many("components")?;
    let session = args.session(app);
    let has_default = has_default(&session)?;
    let names = definitions::components(&app.ctx)?;
    if args.json.is_on() {
        let value = json!({ "default": has_default, "components": names });
        app.out.json(args.json, &value)?;
        return Ok(0);
    }
    if !has_default && names.is_empty() {
        log::info!("No components defined.");
        return Ok(0);
    }
    let components = names
        .iter()
        .map(|name| definitions::load_component(&app.ctx, name))
        .collect::<Result<Vec<_>>>()?;
    let mut table = switch_table("component");
    if has_default {
        table.row([
            Cell::Empty.into(),
            Cell::Empty.into(),
            "<default>".into(),
            "Default Component".into(),
            Cell::Empty.into(),
        ]);
    }
    append(app, args, &mut table, &components);
    app.out.table(&table, args.json, !args.no_legend)?;
    Ok(0)
}
