//! Answers recorded from upstream, asked again, where the recording stands beside the repository.

use crate::stand::{Stand, TOKEN, shared};
use std::process::Command;

/// Cases that answer as upstream, at least.
const IDENTICAL_MIN: usize = 136;

#[tokio::test]
async fn recorded_cases_answer_as_upstream() {
    let Some(folder) = shared("golden") else { return };
    let stand = Stand::start().await;
    let url = format!("https://127.0.0.1:{}", stand.port);
    let (script, cases) = (folder.join("check.py"), folder.join("recorded.jsonl"));
    let replay = move || Command::new("python3").arg(script).args([&url, TOKEN]).arg(cases).arg("-v").output();
    let output = tokio::task::spawn_blocking(replay).await.unwrap().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let identical =
        report.lines().find_map(|line| line.strip_prefix("cases identical ")?.split('/').next()?.parse().ok());
    assert!(identical.is_some_and(|n: usize| n >= IDENTICAL_MIN), "{report}");
}
