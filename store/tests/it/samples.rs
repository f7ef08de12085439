//! Bytes of every message of a schema, made from the schema alone: what another program would write, field by field.

use std::collections::BTreeMap;

use prost::Message;

/// What bytes decode to, which must survive being written again.
pub fn shown<T: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> String {
    let value = T::decode(bytes).expect("it decodes");
    assert_eq!(
        T::decode(value.encode_to_vec().as_slice()).expect("our own bytes"),
        value
    );
    format!("{value:?}")
}

/// [`shown`] for the message of this name, out of those that are listed.
macro_rules! by_name {
    ($name:expr, $bytes:expr, $($message:ident)*) => {
        match $name {
            $(stringify!($message) => samples::shown::<$message>($bytes),)*
            other => panic!("{other} is in the schema: add it here"),
        }
    };
}
pub(crate) use by_name;

/// One field of a message, as the build script wrote it down.
#[derive(Clone, Debug)]
pub struct Field {
    pub number: u32,
    pub kind: String,
    /// The message or enumeration it is of; empty: a scalar.
    pub named: String,
    pub repeated: bool,
    /// The oneof it belongs to; empty: none.
    pub oneof: String,
    pub name: String,
}

/// Messages by name.
pub type Schema = BTreeMap<String, Vec<Field>>;

/// How deep messages are filled: what they hold further down has a sample of its own.
const DEPTH_MAX: usize = 1;

/// Reads the lines of a schema; enumerations are left out.
pub fn read(text: &str) -> Schema {
    let mut schema = Schema::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [message, number, kind, label, oneof, name] = words[..] else {
            panic!("not a line of a schema: {line:?}");
        };
        if kind == "VALUE" {
            continue;
        }
        let fields = schema.entry(message.to_owned()).or_default();
        if number == "-" {
            continue;
        }
        let (kind, named) = kind.split_once('=').unwrap_or((kind, ""));
        fields.push(Field {
            number: number.parse().expect("a number"),
            kind: kind.to_owned(),
            named: named.to_owned(),
            repeated: label == "LABEL_REPEATED",
            oneof: if oneof == "-" { String::new() } else { oneof.to_owned() },
            name: name.to_owned(),
        });
    }
    schema
}

/// Every sample: a message's name, behind a dot the branch of its oneof where it has one, and its bytes.
pub fn all(schema: &Schema) -> BTreeMap<String, Vec<u8>> {
    let mut samples = BTreeMap::new();
    for (message, fields) in schema {
        let branches: Vec<&Field> = fields.iter().filter(|field| !field.oneof.is_empty()).collect();
        if branches.is_empty() {
            samples.insert(message.clone(), sample(schema, message, None, 0));
        }
        for branch in branches {
            let bytes = sample(schema, message, Some(branch.number), 0);
            samples.insert(format!("{message}.{}", branch.name), bytes);
        }
    }
    samples
}

fn sample(schema: &Schema, message: &str, branch: Option<u32>, depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chosen = Vec::new();
    for field in &schema[message] {
        if !field.oneof.is_empty() {
            let first = !chosen.contains(&&field.oneof);
            if branch.map_or(!first, |branch| branch != field.number) {
                continue;
            }
            chosen.push(&field.oneof);
        }
        put(schema, field, depth, &mut bytes);
    }
    bytes
}

fn put(schema: &Schema, field: &Field, depth: usize, bytes: &mut Vec<u8>) {
    let number = u64::from(field.number);
    let packed = field.repeated && !matches!(field.kind.as_str(), "TYPE_STRING" | "TYPE_BYTES" | "TYPE_MESSAGE");
    if packed {
        let mut values = Vec::new();
        varint(number, &mut values);
        varint(300 + number, &mut values);
        delimited(number, &values, bytes);
        return;
    }
    let text = format!("{} \u{e9}", field.name);
    match field.kind.as_str() {
        "TYPE_STRING" | "TYPE_BYTES" => delimited(number, text.as_bytes(), bytes),
        "TYPE_MESSAGE" if depth < DEPTH_MAX => {
            delimited(number, &sample(schema, &field.named, None, depth + 1), bytes);
        }
        "TYPE_MESSAGE" => delimited(number, &[], bytes),
        "TYPE_BOOL" | "TYPE_ENUM" => tagged(number, 0, bytes, |bytes| varint(1, bytes)),
        "TYPE_UINT32" => tagged(number, 0, bytes, |bytes| varint(70_000 + number, bytes)),
        "TYPE_UINT64" => tagged(number, 0, bytes, |bytes| varint(5_000_000_000 + number, bytes)),
        "TYPE_INT64" => tagged(number, 0, bytes, |bytes| {
            varint((number as i64).wrapping_neg() as u64, bytes)
        }),
        "TYPE_FIXED64" => tagged(number, 1, bytes, |bytes| bytes.extend(u64::MAX.to_le_bytes())),
        "TYPE_FIXED32" => tagged(number, 5, bytes, |bytes| bytes.extend(0x0102_0304_u32.to_le_bytes())),
        other => panic!("say how {other} is written"),
    }
    if field.repeated {
        // Twice the same: that there may be several is what counts.
        let once = Field {
            repeated: false,
            ..field.clone()
        };
        put(schema, &once, depth, bytes);
    }
}

fn tagged(number: u64, wire_type: u64, bytes: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    varint((number << 3) | wire_type, bytes);
    value(bytes);
}

fn delimited(number: u64, content: &[u8], bytes: &mut Vec<u8>) {
    tagged(number, 2, bytes, |bytes| varint(content.len() as u64, bytes));
    bytes.extend_from_slice(content);
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Compares a schema and its samples with those of earlier releases in `directory`; writes them anew where BLOX_BLESS asks for it.
///
/// What stood in the golden schema must stand in this one, under the same number with the same type: names may change, fields may come, none
/// may go. Each golden message must decode to the same values.
pub fn check(directory: &std::path::Path, schema_text: &str, decode: impl Fn(&str, &[u8]) -> String) {
    let (schema_file, messages_file) = (directory.join("schema.txt"), directory.join("messages.txt"));
    let shown = |name: &str, bytes: &[u8]| {
        let message = name.split('.').next().unwrap_or(name);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name}\n  {hex}\n  {}\n", decode(message, bytes))
    };
    if std::env::var_os("BLOX_BLESS").is_some() {
        let messages: String = all(&read(schema_text))
            .iter()
            .map(|(name, bytes)| shown(name, bytes))
            .collect();
        std::fs::write(&schema_file, schema_text).expect("written");
        std::fs::write(&messages_file, messages).expect("written");
    }
    let golden = std::fs::read_to_string(&schema_file).expect("the golden schema is there");
    let key = |line: &str| -> (String, String) {
        let words: Vec<&str> = line.split(' ').collect();
        let (place, what) = (&words[..2], &words[2..5]);
        // Of an enumeration's value the name is what it means.
        let name = if words[2] == "VALUE" { words[5] } else { "" };
        (place.join(" "), format!("{} {name}", what.join(" ")))
    };
    let now: BTreeMap<String, String> = schema_text.lines().map(key).collect();
    for line in golden.lines() {
        let (place, what) = key(line);
        assert_eq!(
            now.get(&place),
            Some(&what),
            "{line:?} of an earlier release: schemas only grow"
        );
    }
    let messages = std::fs::read_to_string(&messages_file).expect("the golden messages are there");
    let lines: Vec<&str> = messages.lines().collect();
    let mut seen = Vec::new();
    for block in lines.chunks(3) {
        let [name, hex, _] = block else {
            panic!("a message has three lines: {block:?}")
        };
        let hex = hex.trim();
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
            .collect();
        assert_eq!(
            shown(name, &bytes),
            block.join("\n") + "\n",
            "{name} no longer decodes to what it was"
        );
        seen.push((*name).to_owned());
    }
    for name in all(&read(schema_text)).keys() {
        assert!(
            seen.contains(name),
            "{name} has no golden bytes yet: BLOX_BLESS=1 writes them"
        );
    }
}
