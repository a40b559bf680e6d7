//! Answers recorded from upstream, asked again, where the recording stands beside the repository.

use crate::stand::{Stand, TOKEN, shared};
use std::process::Command;

/// Cases that the recording has, at least.
const CASES_MIN: usize = 136;

#[tokio::test]
async fn recorded_cases_answer_as_upstream() {
    let Some(folder) = shared("golden") else { return };
    let stand = Stand::start().await;
    let url = format!("https://127.0.0.1:{}", stand.port);
    let (script, cases) = (folder.join("check.py"), folder.join("recorded.jsonl"));
    let replay = move || Command::new("python3").arg(script).args([&url, TOKEN]).arg(cases).arg("-v").output();
    let output = tokio::task::spawn_blocking(replay).await.unwrap().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let summary = report.lines().find_map(|line| line.strip_prefix("cases identical ")?.split_once('/'));
    let cases = summary.and_then(|(_, rest)| rest.split(';').next()?.parse().ok());
    assert!(cases.is_some_and(|n: usize| n >= CASES_MIN), "{report}");
    let differences: Vec<&str> = report.lines().filter(|line| line.starts_with(' ') && !is_age(line)).collect();
    assert!(differences.is_empty(), "{report}");
}

/// Whether a difference is one of age only: `.body.rows[0].cells[4]: expected "0s" got "1s"`. How old an object is when a
/// table of it is printed depends on when it was asked for.
fn is_age(difference: &str) -> bool {
    let seconds = |text: &str| text.strip_suffix("s\"").and_then(|t| t.strip_prefix('"')?.parse::<u8>().ok()).is_some();
    difference
        .split_once("].cells[")
        .and_then(|(_, rest)| rest.split_once(": expected ")?.1.split_once(" got "))
        .is_some_and(|(expected, got)| seconds(expected) && seconds(got))
}

#[test]
fn only_ages_may_differ() {
    for (line, age) in [
        (r#"    .body.rows[0].cells[4]: expected "0s" got "1s""#, true),
        (r#"    .body.rows[0].cells[4]: expected "0s" got "1h""#, false),
        (r#"    .body.rows[0].cells[4]: expected "<none>" got "1s""#, false),
        (r#"    .body.spec.period: expected "0s" got "1s""#, false),
    ] {
        assert_eq!(is_age(line), age, "{line}");
    }
}
