//! Log lines on stderr in klog's text form or upstream's JSON form.
//!
//! ```no_run
//! # let flags = component_base::cli::LoggingFlags::default();
//! component_base::logs::init(&flags);
//! tracing::info!(pod = "default/web", "Created container");
//! // I1123 17:41:09.123456    4242 logs.rs:7] "Created container" pod="default/web"
//! ```
//!
//! `-v` up to 3 shows info, 4 and 5 debug, 6 and above trace. Libraries stay at warnings below 8. `--vmodule=queue=4`
//! raises one file of ours. Never log a Secret's content, a token or a key.

use std::{fmt, process};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, filter_fn},
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::cli::LoggingFlags;

/// Starts logging. A second call in one process changes nothing.
pub fn init(flags: &LoggingFlags) {
    let rules = Rules::new(flags);
    let most_verbose = rules.most_verbose();
    let filter = filter_fn(move |metadata| rules.shows(metadata)).with_max_level_hint(most_verbose);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry();
    let _ = if flags.logging_format == "json" {
        registry.with(layer.event_format(Json).with_filter(filter)).try_init()
    } else {
        registry.with(layer.event_format(Klog).with_filter(filter)).try_init()
    };
}

/// The crate is one of this project: Cargo names the files of a workspace's crates from its root, and those of others by
/// their whole path.
fn is_ours(file: &str) -> bool {
    !file.starts_with('/')
}

fn level_of(verbosity: u8) -> LevelFilter {
    match verbosity {
        0..=3 => LevelFilter::INFO,
        4..=5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

struct Rules {
    ours: LevelFilter,
    libraries: LevelFilter,
    /// File stem and its level, from `--vmodule`.
    files: Vec<(String, LevelFilter)>,
}

impl Rules {
    fn new(flags: &LoggingFlags) -> Self {
        let files = flags
            .vmodule
            .iter()
            .filter_map(|rule| {
                let (pattern, verbosity) = rule.split_once('=')?;
                Some((pattern.trim_end_matches('*').to_owned(), level_of(verbosity.parse().ok()?)))
            })
            .collect();
        let libraries = if flags.v >= 8 { LevelFilter::DEBUG } else { LevelFilter::WARN };
        Self { ours: level_of(flags.v), libraries, files }
    }

    fn most_verbose(&self) -> LevelFilter {
        self.files.iter().map(|(_, level)| *level).fold(self.ours.max(self.libraries), LevelFilter::max)
    }

    fn shows(&self, metadata: &Metadata<'_>) -> bool {
        let stem = file_name(metadata).trim_end_matches(".rs");
        let file = self.files.iter().find(|(prefix, _)| stem.starts_with(prefix.as_str())).map(|(_, level)| *level);
        let level = file.unwrap_or(if metadata.file().is_some_and(is_ours) { self.ours } else { self.libraries });
        *metadata.level() <= level
    }
}

fn file_name<'a>(metadata: &Metadata<'a>) -> &'a str {
    let path = metadata.file().unwrap_or("unknown.rs");
    path.rsplit('/').next().unwrap_or(path)
}

/// The message and the other fields of an event, as JSON values.
#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            // "log.*" repeats file and line for events bridged from the `log` crate.
            (name, _) if name.starts_with("log.") => {}
            (name, value) => {
                self.rest.insert(name.trim_start_matches("r#").to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
}

/// `Lmmdd hh:mm:ss.uuuuuu pid file:line] "message" key="value"`
struct Klog;

impl<S, N> FormatEvent<S, N> for Klog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let letter = match *metadata.level() {
            Level::ERROR => 'E',
            Level::WARN => 'W',
            _ => 'I',
        };
        let now = jiff::Zoned::now();
        let Fields { message, rest } = Fields::of(event);
        write!(
            out,
            "{letter}{} {:>7} {}:{}] {message:?}",
            now.strftime("%m%d %H:%M:%S.%6f"),
            process::id(),
            file_name(metadata),
            metadata.line().unwrap_or(0),
        )?;
        for (key, value) in rest {
            match value {
                Value::String(text) => write!(out, " {key}={text:?}")?,
                other => write!(out, " {key}={other}")?,
            }
        }
        writeln!(out)
    }
}

/// `{"ts":…,"caller":"file:line","msg":"…","v":0,…}`; errors carry no `v`.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let Fields { message, rest } = Fields::of(event);
        let mut line = Map::new();
        // Milliseconds since the epoch with microseconds behind the point, as upstream's encoder writes them.
        let ts = jiff::Timestamp::now().as_microsecond() as f64 / 1e3;
        line.insert("ts".into(), Value::from(ts));
        line.insert("caller".into(), format!("{}:{}", file_name(metadata), metadata.line().unwrap_or(0)).into());
        line.insert("msg".into(), message.into());
        match *metadata.level() {
            Level::ERROR => {}
            Level::DEBUG => drop(line.insert("v".into(), 4.into())),
            Level::TRACE => drop(line.insert("v".into(), 6.into())),
            _ => drop(line.insert("v".into(), 0.into())),
        }
        for (key, value) in rest {
            let key = if key == "error" { "err".to_owned() } else { key };
            line.insert(key, value);
        }
        writeln!(out, "{}", Value::Object(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbosity_to_level() {
        for (v, level) in
            [(0, LevelFilter::INFO), (2, LevelFilter::INFO), (4, LevelFilter::DEBUG), (9, LevelFilter::TRACE)]
        {
            assert_eq!(level_of(v), level, "-v={v}");
        }
    }

    #[test]
    fn crates_of_the_workspace_are_ours_and_others_are_not() {
        assert!(is_ours(file!()));
        assert!(!is_ours("/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/kube-client-5.0.0/src/lib.rs"));
    }

    #[test]
    fn vmodule_raises_the_most_verbose_level() {
        let flags = LoggingFlags { vmodule: vec!["queue=6".into(), "broken".into()], ..LoggingFlags::default() };
        let rules = Rules::new(&flags);
        assert_eq!(rules.files, [("queue".to_owned(), LevelFilter::TRACE)]);
        assert_eq!(rules.most_verbose(), LevelFilter::TRACE);
    }
}
