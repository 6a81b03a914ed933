//! Values of options as the peer reads them, for `#[argh(from_str_fn(…))]`.
//!
//! An error text is a reason, shown as `Failed to parse --name= parameter 'value': reason`; or it is
//! a sentence of its own, because `{option}` stands in it for the option's name with its dashes, or
//! because `sentence` has made it.

use std::path::PathBuf;

use slipway::conf::value;
use slipway::out::json::Mode;

use super::text;

/// A file name, which need not be UTF-8.
pub(crate) fn path(value: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text::decode(value)))
}

/// `1 yes y true t on` and `0 no n false f off`, in any case.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    value::boolean(text)
        .map_err(|_| format!("Failed to parse boolean argument to '{{option}}=': {text}"))
}

/// In front of an error text that is shown as it is.
pub(super) const SENTENCE: &str = "{sentence}";

/// An error text that is shown as it is.
#[cfg(any(feature = "varlinkctl", feature = "imds", feature = "repart"))]
pub(crate) fn sentence(text: &str) -> String {
    format!("{SENTENCE}{text}")
}

/// The words of `--json=`; `help` and `-j` are answered before.
pub(crate) fn json_mode(value: &str) -> Result<Mode, String> {
    Mode::parse(value)
        .map_err(|_| format!("Unknown argument to {option}= switch: {value}", option = "{option}"))
}
