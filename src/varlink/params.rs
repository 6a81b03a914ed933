//! Parameters of a call, and how a handler takes them.
//!
//! The server has checked names and types against the interface description already; what is left
//! to fail here are ranges, and handlers that ask for something the description does not have.
//! Every failure is `InvalidParameter` with the name of the top-level parameter, as the peer does
//! for nested ones too. `null` and absent are equal.

use serde_json::{Map, Value};

use super::errors::invalid_parameter;
use super::idl::integer;
use crate::error::{Error, Result};

/// The parameters of a call, or a struct inside them.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    members: &'a Map<String, Value>,
    /// Name of the top-level parameter this struct is in.
    outer: Option<&'a str>,
}

impl<'a> Params<'a> {
    /// A cursor over the parameters of a call.
    pub fn new(members: &'a Map<String, Value>) -> Self {
        Self { members, outer: None }
    }

    /// All of them, in the order sent.
    pub fn members(&self) -> &'a Map<String, Value> {
        self.members
    }

    /// The refusal of one of them.
    pub fn invalid(&self, name: &str) -> Error {
        invalid_parameter(self.outer.unwrap_or(name))
    }

    /// A value that is there and not `null`.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        self.value(name).map(|value| read(value).ok_or_else(|| self.invalid(name))).transpose()
    }

    fn required<T>(&self, name: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.invalid(name))
    }

    /// A string, if given.
    pub fn opt_str(&self, name: &str) -> Result<Option<&'a str>> {
        self.optional(name, Value::as_str)
    }

    /// A string.
    pub fn str(&self, name: &str) -> Result<&'a str> {
        self.required(name, self.opt_str(name)?)
    }

    /// An integer, if given; a string of digits counts.
    pub fn opt_int(&self, name: &str) -> Result<Option<i64>> {
        self.optional(name, |value| integer(value)?.try_into().ok())
    }

    /// An integer; a string of digits counts.
    pub fn int(&self, name: &str) -> Result<i64> {
        self.required(name, self.opt_int(name)?)
    }

    /// An integer that is not negative, if given.
    pub fn opt_uint(&self, name: &str) -> Result<Option<u64>> {
        self.optional(name, |value| integer(value)?.try_into().ok())
    }

    /// An integer that is not negative.
    pub fn uint(&self, name: &str) -> Result<u64> {
        self.required(name, self.opt_uint(name)?)
    }

    /// A truth value, if given.
    pub fn opt_bool(&self, name: &str) -> Result<Option<bool>> {
        self.optional(name, Value::as_bool)
    }

    /// A truth value.
    pub fn bool(&self, name: &str) -> Result<bool> {
        self.required(name, self.opt_bool(name)?)
    }

    /// Strings; absent is an empty list.
    pub fn strings(&self, name: &str) -> Result<Vec<&'a str>> {
        let list = self.optional(name, |value| {
            value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()
        })?;
        Ok(list.unwrap_or_default())
    }

    /// A struct, if given. Complaints about its members name the top-level parameter.
    pub fn opt_object(&self, name: &'a str) -> Result<Option<Params<'a>>> {
        let members = self.optional(name, Value::as_object)?;
        let outer = Some(self.outer.unwrap_or(name));
        Ok(members.map(|members| Params { members, outer }))
    }

    /// A struct. Complaints about its members name the top-level parameter.
    pub fn object(&self, name: &'a str) -> Result<Params<'a>> {
        self.required(name, self.opt_object(name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn complaints_name_the_top_level_parameter() {
        let value = json!({"target": {"class": "host", "size": -1}, "level": "7", "gone": null});
        let params = Params::new(value.as_object().unwrap());
        let target = params.object("target").unwrap();
        assert_eq!(target.str("class").unwrap(), "host");
        let error = target.uint("size").unwrap_err();
        assert_eq!(error.varlink().unwrap().1.get("parameter").unwrap(), "target");
        assert_eq!(params.int("level").unwrap(), 7);
        assert_eq!(params.opt_str("gone").unwrap(), None);
        assert!(params.str("gone").is_err() && params.strings("gone").unwrap().is_empty());
    }
}
