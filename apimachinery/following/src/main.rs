//! `following`: what moving to another minor of Kubernetes takes.
//!
//! What a minor changes stands in tables: types, resources, values, feature gates. This program holds our tables ([`ours`]) against
//! what upstream publishes of another minor ([`document`], [`gates`]) and prints what differs ([`compare`], [`report`]). It reads files
//! that a person has downloaded, and never downloads any. `docs/FOLLOWING.md` says where each comes from and what to do with the list.

mod api;
mod compare;
mod document;
mod gates;
mod ours;
mod paths;
#[cfg(test)]
mod publish;
mod report;

use anyhow::{Context, Result};
use clap::Parser;
use gates::Minor;
use report::Report;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Compares our tables with what upstream publishes of another minor, and prints what moving there takes.
///
/// The exit code is 0 whatever differs, and 1 where a file cannot be read.
#[derive(Parser)]
#[command(name = "following", version, arg_required_else_help = true)]
struct Flags {
    /// The other minor's API: api/openapi-spec/swagger.json or the folder api/openapi-spec/v3 of upstream's release, or what a server
    /// answers under /openapi/v2.
    #[arg(long, value_name = "FILE|DIR", required_unless_present = "feature_gates")]
    openapi: Option<PathBuf>,
    /// Compare with this API instead of with our tables: two minors as upstream publishes them.
    #[arg(long, value_name = "FILE|DIR", requires = "openapi")]
    from: Option<PathBuf>,
    /// The other minor's feature gates: test/compatibility_lifecycle/reference/versioned_feature_list.yaml of upstream's release.
    #[arg(long, value_name = "FILE")]
    feature_gates: Option<PathBuf>,
    /// The minor to read out of the list of feature gates, which knows the past too; its latest if this is left out.
    #[arg(long, value_name = "MINOR", requires = "feature_gates")]
    release: Option<Minor>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // What to do about it stands in the message; a backtrace would hide it.
        Err(error) => {
            eprintln!("following: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<()> {
    let report = compare(flags)?;
    let text = match flags.json {
        true => format!("{:#}\n", report.json()),
        false => report.to_string(),
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough, as `head` has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot print the report"),
    }
}

fn compare(flags: &Flags) -> Result<Report> {
    let mut report = Report::default();
    if let Some(path) = &flags.openapi {
        let to = document::read(path)?;
        let from = flags.from.as_deref().map_or_else(|| Ok(ours::api()), document::read)?;
        report = compare::apis(&from, &to);
    }
    if let Some(path) = &flags.feature_gates {
        let (_, to) = gates::listed(&document::read_file(path)?, flags.release)
            .with_context(|| format!("cannot use {}", path.display()))?;
        report.push(compare::gates(&gates::ours(), &to));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn flags_are_well_formed() {
        Flags::command().debug_assert();
        assert!(Flags::try_parse_from(["following", "--release", "1.36"]).is_err());
        assert!(Flags::try_parse_from(["following", "--feature-gates", "list.yaml", "--release", "soon"]).is_err());
    }
}
