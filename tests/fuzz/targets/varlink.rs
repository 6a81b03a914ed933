//! Varlink: frames, messages, interface descriptions.

use serde_json::{Map, Value};
use slipway::varlink::idl as descriptions;
use slipway::varlink::message::{Reply, Request};
use slipway::varlink::wire::Frames;

use crate::kind;

pub const MESSAGE_WORDS: &[&str] = &[
    "\0",
    "\"method\"",
    "\"parameters\"",
    "\"error\"",
    "\"continues\"",
    "true",
    "null",
    "{}",
    "[]",
    "\\u0000",
    "1e400",
    "-0",
];
pub const IDL_WORDS: &[&str] = &[
    "interface ",
    "method ",
    "type ",
    "error ",
    " -> ",
    "()",
    "(a: int)",
    "?",
    "[]",
    "[string]",
    "#",
    "bool",
    "any",
    "object",
    "(one, two)",
    "\n",
];

/// A stream of messages. How it is cut does not matter, and what a message says survives writing.
pub fn message(bytes: &[u8]) -> u64 {
    let mut whole = Frames::default();
    whole.push(bytes);
    let mut pieces = Frames::default();
    let mut kinds = Vec::new();
    for piece in bytes.chunks(1 + bytes.len() % 7) {
        pieces.push(piece);
        while let Some(frame) = pieces.next_frame() {
            assert_eq!(whole.next_frame().as_ref(), Some(&frame));
            kinds.push(parse(&frame));
        }
    }
    assert_eq!(whole.next_frame(), None);
    assert_eq!(whole.into_rest(), pieces.into_rest());
    // Without a terminator it is no message, but still something to parse.
    kinds.push(parse(bytes));
    kind(&kinds)
}

fn parse(frame: &[u8]) -> (bool, bool) {
    let request = Request::parse(frame);
    if let Ok(request) = &request
        && request.repeated.is_none()
        && !has_fraction(&request.parameters)
    {
        assert_eq!(Request::parse(&request.to_bytes()).as_ref().ok(), Some(request));
    }
    let reply = Reply::parse(frame);
    if let Ok(reply) = &reply
        && !has_fraction(&reply.parameters)
    {
        assert_eq!(Reply::parse(&reply.to_bytes()).as_ref().ok(), Some(reply));
    }
    (request.is_ok(), reply.is_ok())
}

/// True with numbers that are no integers: their last digit may move by one.
fn has_fraction(parameters: &Map<String, Value>) -> bool {
    fn inside(value: &Value) -> bool {
        match value {
            Value::Number(number) => number.is_f64(),
            Value::Array(items) => items.iter().any(inside),
            Value::Object(items) => items.values().any(inside),
            _ => false,
        }
    }
    parameters.values().any(inside)
}

pub fn message_seeds() -> Vec<Vec<u8>> {
    [
        "{\"method\":\"org.varlink.service.GetInfo\"}\0",
        "{\"method\":\"a.b.C\",\"parameters\":{\"x\":[1,2.5,null,\"y\"]},\"more\":true}\0{}\0",
        "{\"parameters\":{},\"continues\":true}\0{\"error\":\"a.b.E\",\"parameters\":{\"f\":1}}\0",
        "{\"method\":\"a.b.C\",\"oneway\":true,\"parameters\":{\"a\":1,\"a\":2}}\0",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// An interface description; its canonical text says the same and is its own canonical text.
pub fn idl(bytes: &[u8]) -> u64 {
    let interface = match descriptions::parse(bytes) {
        Ok(interface) => interface,
        Err(err) => return kind(&err.to_string().split(' ').take(4).collect::<Vec<_>>()),
    };
    let text = descriptions::format(&interface);
    let again = descriptions::parse(text.as_bytes()).expect("canonical text can be parsed");
    assert_eq!(again, interface);
    assert_eq!(descriptions::format(&again), text);
    kind(&(interface.symbols.len().min(8), interface.methods().count().min(4)))
}

pub fn idl_seeds() -> Vec<Vec<u8>> {
    [
        "interface a.b\n\nmethod C(x: int, y: ?[]string) -> (z: [string]T)\n",
        "# about\ninterface org.example.x\n\n# a type\ntype T (a: bool, b: (one, two), c: any)\n\n\
         error E (why: string)\n\nmethod M() -> ()\n",
        "interface a.b\ntype T (\n  # field\n  x: float,\n  y: object\n)\nmethod M(t: ?T) -> (r: []T)\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
