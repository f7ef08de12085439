// Included by the build scripts of `store` and `raft`: a schema as text, one line a field or value, for the tests that hold it to its promise
// to only grow.
macro_rules! schema_lines {
    ($descriptors:expr) => {{
        let mut lines: Vec<String> = Vec::new();
        for file in &$descriptors.file {
            for message in &file.message_type {
                assert!(message.nested_type.is_empty(), "{} holds others: give each a name of its own", message.name());
                for field in &message.field {
                    let kind = match field.type_name().rsplit('.').next() {
                        Some(named) if !named.is_empty() => format!("{}={named}", field.r#type().as_str_name()),
                        _ => field.r#type().as_str_name().to_owned(),
                    };
                    let oneof = match field.oneof_index {
                        Some(index) if !field.proto3_optional() => message.oneof_decl[index as usize].name(),
                        _ => "-",
                    };
                    lines.push(format!(
                        "{} {} {kind} {} {oneof} {}",
                        message.name(),
                        field.number(),
                        field.label().as_str_name(),
                        field.name()
                    ));
                }
                if message.field.is_empty() {
                    lines.push(format!("{} - - - - -", message.name()));
                }
            }
            for enumeration in &file.enum_type {
                for value in &enumeration.value {
                    lines.push(format!("{} {} VALUE - - {}", enumeration.name(), value.number(), value.name()));
                }
            }
        }
        lines.join("\n") + "\n"
    }};
}
