//! [`Interface`] to its canonical text: one member per line, tabs, a blank line between symbols.

use super::{Field, Interface, Kind, Type};

/// The canonical spelling; parsing it gives the same value back.
pub fn format(interface: &Interface) -> String {
    let mut out = String::new();
    comment(&mut out, &interface.comment, 0);
    out.push_str("interface ");
    out.push_str(&interface.name);
    out.push('\n');
    for symbol in &interface.symbols {
        out.push('\n');
        comment(&mut out, &symbol.comment, 0);
        let keyword = match symbol.kind {
            Kind::Type(_) => "type ",
            Kind::Method { .. } => "method ",
            Kind::Error(_) => "error ",
        };
        out.push_str(keyword);
        out.push_str(&symbol.name);
        match &symbol.kind {
            Kind::Type(of) => ty(&mut out, of, 0),
            Kind::Method { input, output } => {
                fields(&mut out, input, 0);
                out.push_str(" -> ");
                fields(&mut out, output, 0);
            }
            Kind::Error(list) => fields(&mut out, list, 0),
        }
        out.push('\n');
    }
    out
}

fn comment(out: &mut String, lines: &[String], depth: usize) {
    for line in lines {
        tabs(out, depth);
        out.push_str("# ");
        out.push_str(line);
        out.push('\n');
    }
}

fn tabs(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n('\t', depth));
}

fn fields(out: &mut String, list: &[Field], depth: usize) {
    members(out, depth, list.iter().map(|field| (&field.name, &field.comment, Some(&field.ty))));
}

fn members<'a>(
    out: &mut String,
    depth: usize,
    list: impl ExactSizeIterator<Item = (&'a String, &'a Vec<String>, Option<&'a Type>)>,
) {
    out.push('(');
    if list.len() == 0 {
        out.push(')');
        return;
    }
    out.push('\n');
    let last = list.len() - 1;
    for (index, (name, lines, of)) in list.enumerate() {
        comment(out, lines, depth + 1);
        tabs(out, depth + 1);
        out.push_str(name);
        if let Some(of) = of {
            out.push_str(": ");
            ty(out, of, depth + 1);
        }
        out.push_str(if index == last { "\n" } else { ",\n" });
    }
    tabs(out, depth);
    out.push(')');
}

fn ty(out: &mut String, of: &Type, depth: usize) {
    match of {
        Type::Bool => out.push_str("bool"),
        Type::Int => out.push_str("int"),
        Type::Float => out.push_str("float"),
        Type::String => out.push_str("string"),
        Type::Object => out.push_str("object"),
        Type::Any => out.push_str("any"),
        Type::Named(name) => out.push_str(name),
        Type::Struct(list) => fields(out, list, depth),
        Type::Enum(list) => {
            members(out, depth, list.iter().map(|variant| (&variant.name, &variant.comment, None)));
        }
        Type::Array(of) => {
            out.push_str("[]");
            ty(out, of, depth);
        }
        Type::Map(of) => {
            out.push_str("[string]");
            ty(out, of, depth);
        }
        Type::Nullable(of) => {
            out.push('?');
            ty(out, of, depth);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    /// Expectations printed by the peer's `varlinkctl validate-idl` (systemd 262.1).
    #[test]
    fn the_canonical_text_is_the_peers() {
        for (input, expected) in [
            ("interface x", "interface x\n"),
            ("#c\n#   d\n\n#e\ninterface x.y\n", "# c\n#   d\n# e\ninterface x.y\n"),
            (
                "interface x.y\nmethod A(a: int, b:?[]string, c:[string]int) -> (x:float,\ny:bool)",
                "interface x.y\n\nmethod A(\n\ta: int,\n\tb: ?[]string,\n\tc: [string]int\n) -> (\n\tx: float,\n\ty: bool\n)\n",
            ),
            (
                "interface x.y\ntype T (a: (b: int, c: (d, e)))\n",
                "interface x.y\n\ntype T(\n\ta: (\n\t\tb: int,\n\t\tc: (\n\t\t\td,\n\t\t\te\n\t\t)\n\t)\n)\n",
            ),
            (
                "interface x.y\ntype T (a: ?(x,y), b:[](x: int))\n",
                "interface x.y\n\ntype T(\n\ta: ?(\n\t\tx,\n\t\ty\n\t),\n\tb: [](\n\t\tx: int\n\t)\n)\n",
            ),
            ("interface x.y\nerror E() # foo\n", "interface x.y\n\nerror E()\n"),
            ("interface x.y\n# foo\n", "interface x.y\n"),
            (
                "interface x.y\r\n  error\tE\t(\ta\t:\tint\t)\r\n",
                "interface x.y\n\nerror E(\n\ta: int\n)\n",
            ),
            ("interface x.y\nmethod M() ->\n()\n", "interface x.y\n\nmethod M() -> ()\n"),
            ("interface x.y error E () error F ()", "interface x.y\n\nerror E()\n\nerror F()\n"),
            ("interface x.y\n# é ü\nerror E()\n", "interface x.y\n\n# é ü\nerror E()\n"),
        ] {
            assert_eq!(format(&parse(input.as_bytes()).unwrap()), expected);
        }
    }

    #[test]
    fn the_standard_interfaces_are_canonical() {
        for text in
            [include_str!("org.varlink.service.varlink"), include_str!("io.systemd.varlink")]
        {
            assert_eq!(format(&parse(text.as_bytes()).unwrap()), text);
        }
    }
}
