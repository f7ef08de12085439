//! The two forms of a log line.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::Position;

/// Longest value in a line, bytes; what is longer is cut and says so.
pub const VALUE_BYTES_MAX: usize = 4_096;

/// `2026-11-22T15:40:01.123456Z  INFO a term=3 session=2 blox_raft::log: message key=value`.
pub struct Text {
    position: Position,
}

/// One object a line: timestamp, level, node, term, session, target, message, then the event's own fields.
pub struct Json {
    position: Position,
}

impl Text {
    pub fn new(position: Position) -> Text {
        Text { position }
    }
}

impl Json {
    pub fn new(position: Position) -> Json {
        Json { position }
    }
}

/// Where a line's time is written.
fn timestamp() -> String {
    let mut text = String::with_capacity(32);
    // Writing to a string does not fail; a clock that cannot be read leaves the time out.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        let (colour, reset) = if writer.has_ansi_escapes() {
            (colour_of(level), "\u{1b}[0m")
        } else {
            ("", "")
        };
        write!(
            writer,
            "{} {colour}{level:>5}{reset} {} term={} session={} ",
            timestamp(),
            self.position.node(),
            self.position.term(),
            self.position.session()
        )?;
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(writer, "{}", span.name())?;
            match span.extensions().get::<FormattedFields<N>>() {
                Some(fields) if !fields.is_empty() => write!(writer, "{{{fields}}}: ")?,
                _ => write!(writer, ": ")?,
            }
        }
        let fields = Fields::of(event);
        write!(writer, "{}: {}", event.metadata().target(), fields.message)?;
        for (name, value) in &fields.others {
            match value {
                Value::String(text) if text.is_empty() || text.contains(char::is_whitespace) => {
                    write!(writer, " {name}={text:?}")?
                }
                Value::String(text) => write!(writer, " {name}={text}")?,
                other => write!(writer, " {name}={other}")?,
            }
        }
        writeln!(writer)
    }
}

fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        _ => "\u{1b}[2m",
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Map::new();
        line.insert("timestamp".into(), timestamp().into());
        line.insert("level".into(), event.metadata().level().as_str().into());
        line.insert("node".into(), self.position.node().into());
        line.insert("term".into(), self.position.term().into());
        line.insert("session".into(), self.position.session().into());
        line.insert("target".into(), event.metadata().target().into());
        let spans: Vec<Value> = context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
            .map(|span| match span.extensions().get::<FormattedFields<N>>() {
                Some(fields) if !fields.is_empty() => format!("{}{{{fields}}}", span.name()).into(),
                _ => span.name().into(),
            })
            .collect();
        if !spans.is_empty() {
            line.insert("spans".into(), spans.into());
        }
        let fields = Fields::of(event);
        line.insert("message".into(), fields.message.into());
        for (name, value) in fields.others {
            // What every line says cannot be overwritten by one event's field of the same name.
            let name = if line.contains_key(name) {
                format!("{name}_")
            } else {
                name.to_owned()
            };
            line.insert(name, value);
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// An event's message and other fields.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn of(event: &Event<'_>) -> Fields {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields
    }

    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.others.push((name, value)),
        }
    }
}

fn cut(mut text: String) -> Value {
    if text.len() > VALUE_BYTES_MAX {
        let end = (0..=VALUE_BYTES_MAX)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        let length = text.len();
        text.truncate(end);
        text.push_str(&format!("... ({length} bytes)"));
    }
    Value::String(text)
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, cut(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, cut(value.to_owned()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .lock()
                .expect("no test panicked with it")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no test panicked with it").clone()).expect("lines are text")
        }
    }

    /// Every line says node, term and session, as they are when it is written; numbers stay numbers; values are cut.
    #[test]
    fn json_lines_say_where_the_node_stands() {
        let position = Position::new("a");
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Json::new(position.clone()))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(entries = 3, "first");
            position.set_term(7);
            position.set_session(2);
            let _span = tracing::info_span!("pass", cluster = "alpha").entered();
            tracing::warn!(node = "b", body = %"x".repeat(VALUE_BYTES_MAX * 2), "second");
        });
        let text = captured.text();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("each line is an object"))
            .collect();
        assert_eq!(
            (&lines[0]["term"], &lines[0]["entries"], &lines[0]["message"]),
            (&0.into(), &3.into(), &"first".into())
        );
        assert_eq!(
            (&lines[1]["term"], &lines[1]["session"], &lines[1]["node"]),
            (&7.into(), &2.into(), &"a".into())
        );
        assert_eq!(lines[1]["node_"], "b");
        assert!(lines[1]["spans"][0].as_str().expect("a span").contains("alpha"));
        assert!(lines[1]["body"].as_str().expect("text").len() < VALUE_BYTES_MAX + 64);
    }

    /// The text form says the same on one line.
    #[test]
    fn text_lines_say_where_the_node_stands() {
        let position = Position::new("a");
        position.set_term(4);
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .event_format(Text::new(position))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::error!(cause = "two words", "it broke");
        });
        let text = captured.text();
        assert!(text.contains("ERROR a term=4 session=0 "), "{text}");
        assert!(text.ends_with(": it broke cause=\"two words\"\n"), "{text}");
    }
}
