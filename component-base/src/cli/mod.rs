//! Command lines as upstream's binaries take them (pflag), on top of clap.
//!
//! What lives here: the parser, the value types that flags share and the flags that every component has. What must not:
//! a flag of one component.
//!
//! ```
//! use component_base::cli::{self, GoDuration, LoggingFlags};
//!
//! #[derive(clap::Parser)]
//! struct Args {
//!     /// Start a leader election client before the main loop.
//!     #[arg(long, default_value_t = true)]
//!     leader_elect: bool,
//!     /// How often nodes are looked at.
//!     #[arg(long, default_value = "5s")]
//!     node_monitor_period: GoDuration,
//!     /// Controllers to run.
//!     #[arg(long, value_delimiter = ',', default_value = "*")]
//!     controllers: Vec<String>,
//!     #[command(flatten)]
//!     logging: LoggingFlags,
//! }
//!
//! let args: Args = cli::try_parse("kube-demo", ["kube-demo", "--leader_elect=false", "--controllers=*,-foo"]).unwrap();
//! assert!(!args.leader_elect);
//! assert_eq!(args.controllers, ["*", "-foo"]);
//! ```
//!
//! A `bool` field may be given as `--flag`, `--flag=false` or `--flag=0`, and defaults to its `default_value_t` (else
//! false). Of a flag given twice the last one counts; a list adds up.

mod duration;
mod inert;
mod parse;
mod values;

pub use crate::feature_gates::FeatureGates;
pub use duration::{DurationError, GoDuration};
pub use inert::InertFlags;
pub use parse::{parse, try_parse};
pub use values::{KeyValues, LoggingFlags, path};
