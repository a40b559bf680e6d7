//! What the user sees while `up` works: one line a step, with its time; a spinner on a terminal only.

use crate::layout::LOGS;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Runs one step and shows how it went.
pub async fn step<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("  {spinner:.cyan} {msg} {elapsed:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.set_style(style);
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    let started = Instant::now();
    let result = work.await;
    bar.finish_and_clear();
    let mark = if result.is_ok() { "✓" } else { "✗" };
    println!("  {mark} {what} ({:.1} s)", started.elapsed().as_secs_f64());
    result
}

/// Tries until it works; fails with the last error when time is up.
pub async fn until<T>(
    deadline: Instant,
    what: &str,
    attempt: impl AsyncFn() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(e) if Instant::now() > deadline => {
                return Err(
                    e.context(format!("{what} did not become ready in time; look into {LOGS} and /var/log/pods"))
                );
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Asks a DNS server for the address of a name. (RFC 1035: one question, one answer.)
pub fn ask_dns(server: std::net::IpAddr, name: &str) -> anyhow::Result<std::net::IpAddr> {
    use anyhow::Context;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut query = vec![0x46, 0x4b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    socket.send_to(&query, (server, 53))?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).with_context(|| format!("no answer from {server}"))?;
    let answer = &answer[..length];
    anyhow::ensure!(
        answer.get(..2) == query.get(..2) && answer.get(7).is_some_and(|n| *n > 0),
        "{server} knows no {name}"
    );
    // The last four bytes of a single A record are its address, if nothing follows it.
    let at = (query.len()..length.saturating_sub(15))
        .find(|i| answer[*i + 2..].starts_with(&[0, 1, 0, 1]) && answer[*i + 10..].starts_with(&[0, 4]));
    let at = at.with_context(|| format!("no address of {name} in the answer of {server}"))? + 12;
    let octets: [u8; 4] = answer.get(at..at + 4).and_then(|b| b.try_into().ok()).context("a cut answer")?;
    Ok(std::net::IpAddr::from(octets))
}
