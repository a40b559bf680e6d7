//! clap, taught pflag's manners.

use std::{ffi::OsString, process};

use clap::{ArgAction, Command, CommandFactory, Parser, builder::ValueParser, error::ErrorKind};

use crate::go::parse_bool;
use crate::version;

/// Reads the process's command line. `--help`, `--version` and `completion <shell>` print and exit 0; an error is
/// printed as upstream prints it, and the process exits 1.
pub fn parse<A: Parser>(name: &'static str) -> A {
    let argv: Vec<OsString> = std::env::args_os().collect();
    if let [_, word, rest @ ..] = argv.as_slice()
        && word == "completion"
    {
        complete::<A>(name, rest);
    }
    match try_parse(name, argv) {
        Ok(args) => args,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.exit(),
            _ => {
                eprintln!("{}\nRun '{name} --help' for usage.", message(name, &error));
                process::exit(1);
            }
        },
    }
}

/// As [`parse`], of the given words (the first is the program's name), without exiting.
pub fn try_parse<A, I, S>(name: &'static str, argv: I) -> Result<A, clap::Error>
where
    A: Parser,
    I: IntoIterator<Item = S>,
    S: Into<OsString>,
{
    let argv = argv.into_iter().enumerate().map(|(index, word)| {
        let word = word.into();
        if index == 0 { word } else { with_dashes(word) }
    });
    let mut matches = command::<A>(name).try_get_matches_from(argv)?;
    A::from_arg_matches_mut(&mut matches)
}

fn command<A: CommandFactory>(name: &'static str) -> Command {
    A::command()
        .name(name)
        .bin_name(name)
        .version(version::GIT_VERSION)
        .help_template("{about-with-newline}\nUsage:\n  {name} [flags]\n\n{all-args}")
        .disable_version_flag(true)
        // pflag: the last of a scalar counts.
        .args_override_self(true)
        .arg(
            clap::Arg::new("version")
                .long("version")
                .action(ArgAction::Version)
                .help("Print version information and quit"),
        )
        .mut_args(|arg| match arg.get_action() {
            // pflag's booleans take their value only behind "=".
            ArgAction::SetTrue => {
                let preset = !arg.get_default_values().is_empty();
                let arg = arg
                    .action(ArgAction::Set)
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .hide_possible_values(true)
                    .value_parser(ValueParser::new(parse_bool));
                if preset { arg } else { arg.default_value("false") }
            }
            // "--controllers -foo": whatever follows a flag is its value.
            ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_hyphen_values(true),
            _ => arg,
        })
}

/// Upstream takes underscores in flag names for dashes.
fn with_dashes(word: OsString) -> OsString {
    match word.to_str() {
        Some(text) if text.starts_with("--") => match text.split_once('=') {
            Some((flag, value)) => format!("{}={value}", flag.replace('_', "-")).into(),
            None => text.replace('_', "-").into(),
        },
        _ => word,
    }
}

fn message(name: &str, error: &clap::Error) -> String {
    use clap::error::{ContextKind, ContextValue};
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let given = context(ContextKind::InvalidArg);
            if given.starts_with('-') {
                format!("Error: unknown flag: {given}")
            } else {
                format!("Error: unknown command {given:?} for {name:?}")
            }
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            format!("Error: {}", first.trim_start_matches("error: "))
        }
    }
}

fn complete<A: CommandFactory>(name: &'static str, rest: &[OsString]) -> ! {
    use clap::ValueEnum;
    let shell = rest.first().and_then(|shell| shell.to_str()).unwrap_or("bash");
    match clap_complete::Shell::from_str(shell, true) {
        Ok(shell) => {
            clap_complete::generate(shell, &mut command::<A>(name), name, &mut std::io::stdout());
            process::exit(0)
        }
        Err(error) => {
            eprintln!("Error: {error}");
            process::exit(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{FeatureGates, GoDuration, LoggingFlags};

    #[derive(clap::Parser, Debug)]
    struct Args {
        #[arg(long, default_value_t = true)]
        leader_elect: bool,
        #[arg(long)]
        profiling: bool,
        #[arg(long)]
        maybe: Option<String>,
        #[arg(long, value_delimiter = ',', default_value = "*")]
        controllers: Vec<String>,
        #[arg(long, default_value = "40s")]
        node_monitor_grace_period: GoDuration,
        #[command(flatten)]
        logging: LoggingFlags,
    }

    fn args(words: &[&str]) -> Result<Args, clap::Error> {
        try_parse("kube-demo", std::iter::once("kube-demo").chain(words.iter().copied()))
    }

    #[test]
    fn booleans_take_a_value_only_behind_the_equals_sign() {
        for (words, leader_elect, profiling) in [
            (&[][..], true, false),
            (&["--leader-elect", "--profiling"], true, true),
            (&["--leader-elect=false", "--profiling=true"], false, true),
            (&["--leader_elect=f", "--profiling=1"], false, true),
            (&["--profiling=true", "--profiling=false"], true, false),
        ] {
            let args = args(words).unwrap();
            assert_eq!((args.leader_elect, args.profiling), (leader_elect, profiling), "{words:?}");
        }
        assert!(args(&["--leader-elect", "false"]).is_err());
        assert!(args(&["--leader-elect=maybe"]).is_err());
    }

    #[test]
    fn lists_durations_maps_and_verbosity() {
        let args = args(&[
            "--controllers=*,-foo",
            "--controllers",
            "-bar",
            "--node-monitor-grace-period=1m30s",
            "--feature-gates=MemoryQoS=true,NodeLogQuery=false",
            "--maybe",
            "-x",
            "-v=4",
        ])
        .unwrap();
        assert_eq!(args.controllers, ["*", "-foo", "-bar"]);
        assert_eq!(args.node_monitor_grace_period, GoDuration::from_secs(90));
        assert_eq!(
            args.logging.feature_gates,
            FeatureGates([("MemoryQoS".into(), true), ("NodeLogQuery".into(), false)].into())
        );
        assert_eq!(args.maybe.as_deref(), Some("-x"));
        assert_eq!(args.logging.v, 4);
        assert_eq!(super::try_parse::<Args, _, _>("d", ["d", "--v=5"]).unwrap().logging.v, 5);
    }

    #[test]
    fn errors_read_as_upstreams() {
        for (words, text) in [
            (&["--nope"][..], "Error: unknown flag: --nope"),
            (&["serve"], "Error: unknown command \"serve\" for \"kube-demo\""),
        ] {
            assert_eq!(message("kube-demo", &args(words).unwrap_err()), text);
        }
    }
}
