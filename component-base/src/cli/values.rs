//! Values and flags that several components share.

use std::{collections::BTreeMap, convert::Infallible, fmt, path::PathBuf, str::FromStr};

use crate::feature_gates::FeatureGates;

/// A map flag: `--node-labels=a=1,b=2`. A value may be empty (`a=`); a pair without `=` is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValues(pub BTreeMap<String, String>);

impl FromStr for KeyValues {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                // A key by itself switches on what it names, as upstream takes it.
                let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
                if key.trim().is_empty() {
                    return Err(format!("malformed pair {pair:?}, expected key=value"));
                }
                Ok((key.trim().to_owned(), value.trim().to_owned()))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for KeyValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<_> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&pairs.join(","))
    }
}

/// The value parser of a path that may be empty, which is as good as none: clap's own refuses it.
pub fn path(text: &str) -> Result<PathBuf, Infallible> {
    Ok(PathBuf::from(text))
}

/// The logging flags of every component; see [`crate::logs::init`].
#[derive(Clone, Debug, Default, clap::Args)]
pub struct LoggingFlags {
    /// Number for the log level verbosity: 0 to 3 info, 4 and 5 debug, 6 and above trace.
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub v: u8,

    /// Sets the log format. Permitted formats: "text", "json".
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub logging_format: String,

    /// Comma-separated list of pattern=N settings for file-filtered logging (only for the text format).
    #[arg(long, value_delimiter = ',')]
    pub vmodule: Vec<String>,

    /// Maximum number of seconds between log flushes; accepted, every line is written at once.
    #[arg(long, default_value = "5s", hide = true)]
    pub log_flush_frequency: String,

    /// A set of key=value pairs that describe feature gates.
    #[arg(long, default_value = "")]
    pub feature_gates: FeatureGates,
}
