//! `--import`, and what it would do.

use ::slipway::error::Result;
use ::slipway::fs::Files;
use ::slipway::imds::import::{self, Plan, Standing};
use ::slipway::out::escape;
use serde_json::{Value, json};

use super::Args;
use crate::app::App;

/// Imports; the status tells of host name, SSH keys and user data, not of addresses.
pub(super) fn import(app: &mut App, args: &Args) -> Result<u8> {
    let ctx = app.ctx.clone();
    let keys = import::provider_keys(&ctx);
    if args.dry_run {
        let gathered = args.with_source(app, |source| Ok(import::gather(&ctx, source, &keys)?))?;
        let plan = import::plan(&gathered, &Standing::read(&ctx));
        print(app, args, &plan)?;
        return Ok(u8::from(plan.has_failed()));
    }
    let files = Files::default();
    let is_good = args.with_source(app, |source| import::run(&ctx, &files, source, &keys))?;
    Ok(u8::from(!is_good))
}

fn print(app: &mut App, args: &Args, plan: &Plan) -> Result<()> {
    if args.json.is_on() {
        let steps = plan.steps.iter().map(import::Step::to_json);
        let steps = json!({ "steps": steps.collect::<Value>() });
        return app.out.json(args.json, &steps);
    }
    for step in &plan.steps {
        // Names and addresses in it are the cloud's.
        app.out.line(&escape::line(&step.to_text()))?;
    }
    if plan.is_noop() {
        app.out.line("Nothing would be changed.")?;
    }
    Ok(())
}
