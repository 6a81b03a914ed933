//! Text to [`Interface`].
//!
//! Positions in errors are the peer's: a word is consumed before it is judged, a sign that does
//! not fit stays unconsumed.

use super::{Field, IdlError, Interface, Kind, MAX_DEPTH, Symbol, Type, Variant};
use super::{is_field_name, is_interface_name, is_symbol_name};

type Result<T> = std::result::Result<T, IdlError>;

/// Parses and validates one interface description. Total: any bytes give a value or an error.
pub fn parse(text: &[u8]) -> Result<Interface> {
    let mut parser = Parser { rest: text, line: 1, column: 1, comment: Vec::new() };
    let interface = parser.interface()?;
    validate_names(&interface)?;
    validate_unique(&interface)?;
    if let Some(name) = unresolved(&interface) {
        return Err(IdlError::Unresolved(parser.line, parser.column, name));
    }
    Ok(interface)
}

struct Parser<'a> {
    rest: &'a [u8],
    line: u32,
    column: u32,
    /// Comment lines seen and not yet given to anything.
    comment: Vec<String>,
}

impl Parser<'_> {
    fn interface(&mut self) -> Result<Interface> {
        if self.word()? != "interface" {
            return Err(self.bad());
        }
        let comment = std::mem::take(&mut self.comment);
        let name = self.run(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))?;
        let mut interface = Interface { name, comment, symbols: Vec::new() };
        self.blank()?;
        while !self.rest.is_empty() {
            let keyword = self.word()?;
            let comment = std::mem::take(&mut self.comment);
            let (name, kind) = match keyword.as_str() {
                "type" => (self.word()?, Kind::Type(self.body(false, true, 0)?)),
                "method" => {
                    let name = self.word()?;
                    let input = self.fields()?;
                    self.sign(b"-")?;
                    self.sign_here(b">")?;
                    (name, Kind::Method { input, output: self.fields()? })
                }
                "error" => (self.word()?, Kind::Error(self.fields()?)),
                _ => return Err(self.bad()),
            };
            interface.symbols.push(Symbol { name, comment, kind });
            self.blank()?;
        }
        Ok(interface)
    }

    /// Parameters: a struct that may be empty.
    fn fields(&mut self) -> Result<Vec<Field>> {
        match self.body(true, false, 0)? {
            Type::Struct(fields) => Ok(fields),
            _ => Err(self.bad()),
        }
    }

    /// `( … )`: the first member decides between struct and enum.
    fn body(&mut self, may_be_empty: bool, may_be_enum: bool, depth: usize) -> Result<Type> {
        // LIMIT: a hostile text must not exhaust the stack.
        if depth > MAX_DEPTH {
            return Err(self.bad());
        }
        self.sign(b"(")?;
        let (mut fields, mut variants) = (Vec::new(), Vec::new());
        loop {
            self.blank()?;
            if self.rest.first() == Some(&b')') && fields.is_empty() && variants.is_empty() {
                self.take();
                return if may_be_empty { Ok(Type::Struct(fields)) } else { Err(self.bad()) };
            }
            let comment = std::mem::take(&mut self.comment);
            let name = self.word()?;
            let mut next = self.sign(b":,)")?;
            if next == b':' && variants.is_empty() {
                let ty = self.ty(depth + 1)?;
                fields.push(Field { name, comment, ty });
                next = self.sign(b",)")?;
            } else if next != b':' && may_be_enum && fields.is_empty() {
                variants.push(Variant { name, comment });
            } else {
                return Err(self.bad());
            }
            if next == b')' {
                break;
            }
        }
        Ok(if variants.is_empty() { Type::Struct(fields) } else { Type::Enum(variants) })
    }

    fn ty(&mut self, depth: usize) -> Result<Type> {
        if depth > MAX_DEPTH {
            return Err(self.bad());
        }
        self.blank()?;
        Ok(match self.rest.first() {
            Some(b'?') => {
                self.take();
                self.blank()?;
                if self.rest.first() == Some(&b'?') {
                    return Err(self.bad());
                }
                Type::Nullable(Box::new(self.ty(depth + 1)?))
            }
            // DIFFERS: containers nest and hold nullables as UAPI.20 says; the peer's parser
            // stops at `[][]T` and `[]?T`.
            Some(b'[') => {
                self.take();
                self.blank()?;
                if self.rest.first() == Some(&b']') {
                    self.take();
                    return Ok(Type::Array(Box::new(self.ty(depth + 1)?)));
                }
                if self.word()? != "string" {
                    return Err(self.bad());
                }
                self.sign(b"]")?;
                Type::Map(Box::new(self.ty(depth + 1)?))
            }
            Some(b'(') => self.body(false, true, depth + 1)?,
            _ => match self.word()?.as_str() {
                "bool" => Type::Bool,
                "int" => Type::Int,
                "float" => Type::Float,
                "string" => Type::String,
                "object" => Type::Object,
                "any" => Type::Any,
                name => Type::Named(name.to_owned()),
            },
        })
    }

    fn bad(&self) -> IdlError {
        IdlError::Syntax(self.line, self.column)
    }

    fn take(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        if byte == b'\n' {
            self.line = self.line.saturating_add(1);
            self.column = 1;
        } else {
            self.column = self.column.saturating_add(1);
        }
        Some(byte)
    }

    /// Skips white space, keeps comments.
    fn blank(&mut self) -> Result<()> {
        loop {
            match self.rest.first() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => {
                    self.take();
                }
                Some(b'#') => {
                    self.take();
                    let end = self.rest.iter().position(|&b| b == b'\n');
                    let (line, _) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                    let text = std::str::from_utf8(line).map_err(|_| self.bad())?;
                    let text = text.strip_prefix(' ').unwrap_or(text).trim_end();
                    if text.chars().any(|c| c.is_control() && c != '\t') {
                        return Err(self.bad());
                    }
                    // COMPAT(262): an empty comment line is dropped.
                    if !text.is_empty() {
                        self.comment.push(text.to_owned());
                    }
                    for _ in 0..line.len() {
                        self.take();
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> Result<String> {
        self.blank()?;
        let mut word = String::new();
        while let Some(&byte) = self.rest.first().filter(|&&byte| belongs(byte)) {
            word.push(char::from(byte));
            self.take();
        }
        if word.is_empty() { Err(self.bad()) } else { Ok(word) }
    }

    fn word(&mut self) -> Result<String> {
        self.run(|b| b.is_ascii_alphanumeric() || b == b'_')
    }

    /// One of these signs, after white space.
    fn sign(&mut self, wanted: &[u8]) -> Result<u8> {
        self.blank()?;
        self.sign_here(wanted)
    }

    fn sign_here(&mut self, wanted: &[u8]) -> Result<u8> {
        match self.rest.first() {
            Some(byte) if wanted.contains(byte) => {
                let byte = *byte;
                self.take();
                Ok(byte)
            }
            _ => Err(self.bad()),
        }
    }
}

fn bodies(symbol: &Symbol) -> Vec<&[Field]> {
    match &symbol.kind {
        Kind::Type(Type::Struct(fields)) | Kind::Error(fields) => vec![fields],
        Kind::Method { input, output } => vec![input, output],
        Kind::Type(_) => Vec::new(),
    }
}

fn validate_names(interface: &Interface) -> Result<()> {
    if !is_interface_name(&interface.name) {
        return Err(IdlError::Inconsistent(format!(
            "Interface name '{}' is not valid, refusing.",
            interface.name
        )));
    }
    for symbol in &interface.symbols {
        if !is_symbol_name(&symbol.name) {
            return Err(IdlError::Inconsistent(format!(
                "Symbol name '{}' is not valid, refusing.",
                symbol.name
            )));
        }
        each_member(symbol, &mut |names| match names.iter().find(|name| !is_field_name(name)) {
            None => Ok(()),
            Some(name) => Err(IdlError::Inconsistent(format!(
                "Field name '{name}' in symbol '{}' not valid, refusing.",
                symbol.name
            ))),
        })?;
    }
    Ok(())
}

fn validate_unique(interface: &Interface) -> Result<()> {
    let names: Vec<&str> = interface.symbols.iter().map(|s| s.name.as_str()).collect();
    if let Some(name) = repeated(&names) {
        return Err(IdlError::NotUnique(format!(
            "Symbol '{name}' defined twice in interface, refusing."
        )));
    }
    for symbol in &interface.symbols {
        each_member(symbol, &mut |names| match repeated(names) {
            None => Ok(()),
            Some(name) => Err(IdlError::NotUnique(format!(
                "Field '{name}' defined twice in symbol '{}', refusing.",
                symbol.name
            ))),
        })?;
    }
    Ok(())
}

fn repeated<'a>(names: &[&'a str]) -> Option<&'a str> {
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find_map(|pair| match pair {
        [a, b] if a == b => Some(*a),
        _ => None,
    })
}

/// Calls `visit` with the member names of every struct and enum inside a symbol.
fn each_member(symbol: &Symbol, visit: &mut dyn FnMut(&[&str]) -> Result<()>) -> Result<()> {
    fn fields(list: &[Field], visit: &mut dyn FnMut(&[&str]) -> Result<()>) -> Result<()> {
        visit(&list.iter().map(|field| field.name.as_str()).collect::<Vec<_>>())?;
        list.iter().try_for_each(|field| ty(&field.ty, visit))
    }
    fn ty(of: &Type, visit: &mut dyn FnMut(&[&str]) -> Result<()>) -> Result<()> {
        match of {
            Type::Struct(list) => fields(list, visit),
            Type::Enum(list) => visit(&list.iter().map(|v| v.name.as_str()).collect::<Vec<_>>()),
            Type::Array(of) | Type::Map(of) | Type::Nullable(of) => ty(of, visit),
            _ => Ok(()),
        }
    }
    if let Kind::Type(of) = &symbol.kind {
        return ty(of, visit);
    }
    bodies(symbol).into_iter().try_for_each(|list| fields(list, visit))
}

/// The first used and never defined type. Errors and methods are no types.
fn unresolved(interface: &Interface) -> Option<String> {
    fn named<'a>(of: &'a Type, found: &mut Vec<&'a str>) {
        match of {
            Type::Named(name) => found.push(name),
            Type::Struct(list) => list.iter().for_each(|field| named(&field.ty, found)),
            Type::Array(of) | Type::Map(of) | Type::Nullable(of) => named(of, found),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for symbol in &interface.symbols {
        if let Kind::Type(of) = &symbol.kind {
            named(of, &mut found);
        }
        for field in bodies(symbol).into_iter().flatten() {
            named(&field.ty, &mut found);
        }
    }
    let types: std::collections::BTreeSet<&str> = interface
        .symbols
        .iter()
        .filter(|symbol| matches!(symbol.kind, Kind::Type(_)))
        .map(|symbol| symbol.name.as_str())
        .collect();
    found.into_iter().find(|name| !types.contains(name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::format;
    use super::*;

    fn error(text: &str) -> IdlError {
        parse(text.as_bytes()).unwrap_err()
    }

    /// Positions printed by the peer's `varlinkctl validate-idl` (systemd 262.1).
    #[test]
    fn syntax_errors_are_where_the_peer_sees_them() {
        let head = "interface x.y\n";
        for (text, line, column) in [
            ("type T ()\n", 2, 10),
            ("type T (a: ??int)\n", 2, 13),
            ("error E\n", 3, 1),
            ("error E (a:int,)\n", 2, 16),
            ("interface x.z\n", 2, 10),
            ("method A() -> (a,b)\n", 2, 18),
            ("foo\n", 2, 4),
            ("method M() - > ()\n", 2, 13),
            ("method M(a int) -> ()\n", 2, 12),
            ("method M(a: In-t) -> ()\n", 2, 15),
            ("method M(a: ) -> ()\n", 2, 13),
            ("method M(a: int\n", 3, 1),
            ("error É()\n", 2, 7),
        ] {
            assert_eq!(error(&format!("{head}{text}")), IdlError::Syntax(line, column), "{text}");
        }
        for (text, line, column) in [("", 1, 1), ("x", 1, 2), ("interface", 1, 10)] {
            assert_eq!(error(text), IdlError::Syntax(line, column), "{text}");
        }
        assert_eq!(
            parse(b"interface x.y\n#\xff\nerror E()\n").unwrap_err(),
            IdlError::Syntax(2, 2)
        );
    }

    #[test]
    fn unknown_types_and_used_errors_are_unresolved() {
        for text in ["method M(u: Nope) -> ()\n", "error E(e: E)\n", "type T (a: [](b: ?No))\n"] {
            let text = format!("interface x.y\n{text}");
            assert!(matches!(error(&text), IdlError::Unresolved(3, 1, _)), "{text}");
        }
        assert!(parse(b"interface x.y\ntype T (a: ?T)\n").is_ok());
    }

    #[test]
    fn names_are_valid_and_unique() {
        for text in ["type t (a: int)", "type T (_a: int)", "error E(a__b: int)", "type T (a, b_)"]
        {
            let text = format!("interface x.y\n{text}\n");
            assert!(matches!(error(&text), IdlError::Inconsistent(_)), "{text}");
        }
        for text in ["error E()\nerror E()", "method A(a: int, a: int) -> ()", "type T (a, a)"] {
            let text = format!("interface x.y\n{text}\n");
            assert!(matches!(error(&text), IdlError::NotUnique(_)), "{text}");
        }
        assert!(matches!(error("interface x.y-"), IdlError::Inconsistent(_)));
    }

    #[test]
    fn every_truncation_and_deep_nesting_is_refused_or_parsed_without_harm() {
        let text = include_str!("org.varlink.service.varlink");
        for end in 0..text.len() {
            if let Ok(interface) = parse(&text.as_bytes()[..end]) {
                assert_eq!(parse(format(&interface).as_bytes()), Ok(interface));
            }
        }
        let deep = format!("interface x.y\ntype T {}", "(a: ".repeat(100_000));
        assert!(parse(deep.as_bytes()).is_err());
        let deep = format!("interface x.y\ntype T (a: {}int)", "[]".repeat(100_000));
        assert!(parse(deep.as_bytes()).is_err());
    }
}
