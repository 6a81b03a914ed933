//! Interface descriptions: the text of a `*.varlink` file as values, its rules, and its one
//! canonical spelling.
//!
//! The text is the source of truth: a server parses what it serves, finds a method's parameters
//! in it and checks every call against it before a handler runs, so a handler and its description
//! cannot drift apart. Pure: bytes in, values out, never recurses deeper than [`MAX_DEPTH`].
//! External document: UAPI.20 Varlink (interface definition language).

mod check;
mod format;
mod names;
mod parse;

pub use check::check_parameters;
pub(crate) use check::integer;
pub use format::format;
pub use names::{is_field_name, is_interface_name, is_symbol_name, split_method};
pub use parse::parse;

use std::fmt;

/// LIMIT: how deep structs and containers nest in one type.
pub const MAX_DEPTH: usize = 64;

/// A parsed interface description, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Reverse-domain name.
    pub name: String,
    /// Comment lines above the `interface` keyword, without `# `.
    pub comment: Vec<String>,
    /// Types, methods and errors.
    pub symbols: Vec<Symbol>,
}

impl Interface {
    /// The symbol of that name.
    pub fn symbol(&self, name: &str) -> Option<&Symbol> {
        self.symbols.iter().find(|symbol| symbol.name == name)
    }

    /// The methods, in the order of the text.
    pub fn methods(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|symbol| matches!(symbol.kind, Kind::Method { .. }))
    }

    /// The parameters of a method.
    pub fn input(&self, method: &str) -> Option<&[Field]> {
        match &self.symbol(method)?.kind {
            Kind::Method { input, .. } => Some(input),
            Kind::Type(_) | Kind::Error(_) => None,
        }
    }
}

/// A named thing of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its name, unique in the interface.
    pub name: String,
    /// Comment lines above it, without `# `.
    pub comment: Vec<String>,
    /// What it is.
    pub kind: Kind,
}

impl Symbol {
    /// True where the comment carries `[WORD 'FLAG' flag]`, the hint that generators and
    /// servers read: `has_hint("Requires", "more")`.
    pub fn has_hint(&self, word: &str, flag: &str) -> bool {
        let hint = format!("[{word} '{flag}' flag]");
        self.comment.iter().any(|line| line.contains(&hint))
    }
}

/// The three kinds of symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A struct or enum with a name.
    Type(Type),
    /// A method: parameters of the call and of the reply.
    Method {
        /// What the caller sends.
        input: Vec<Field>,
        /// What the service answers.
        output: Vec<Field>,
    },
    /// An error and its parameters.
    Error(Vec<Field>),
}

/// A member of a struct, or a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its key on the wire.
    pub name: String,
    /// Comment lines above it, without `# `.
    pub comment: Vec<String>,
    /// What its value may be.
    pub ty: Type,
}

/// One word of an enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The word on the wire.
    pub name: String,
    /// Comment lines above it, without `# `.
    pub comment: Vec<String>,
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `bool`
    Bool,
    /// `int`, also sent as a decimal string
    Int,
    /// `float`
    Float,
    /// `string`
    String,
    /// `object`: any JSON object
    Object,
    /// `any`: any JSON value
    Any,
    /// A type defined elsewhere in the interface.
    Named(String),
    /// `(a: T, …)`
    Struct(Vec<Field>),
    /// `(a, b, …)`
    Enum(Vec<Variant>),
    /// `[]T`
    Array(Box<Type>),
    /// `[string]T`
    Map(Box<Type>),
    /// `?T`
    Nullable(Box<Type>),
}

/// Why a text is not an interface description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdlError {
    /// The text stops making sense here; line and column count from 1.
    Syntax(u32, u32),
    /// A type is used and never defined; noticed at the end of the text.
    Unresolved(u32, u32, String),
    /// A name does not follow the rules; the sentence says which.
    Inconsistent(String),
    /// A name is used twice; the sentence says which.
    NotUnique(String),
}

impl fmt::Display for IdlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(line, column) => write!(f, "bad syntax at {line}:{column}"),
            Self::Unresolved(_, _, name) => write!(f, "type '{name}' is not defined"),
            Self::Inconsistent(text) | Self::NotUnique(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for IdlError {}
