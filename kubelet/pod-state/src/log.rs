//! The format of container logs on disk, CRI's: one line is `<RFC 3339 time> <stdout|stderr> <P|F> <content>`. What a
//! container wrote last is a part of its state (`terminationMessagePolicy: FallbackToLogsOnError`), so the format is known
//! here; following and rotating logs is another crate's.

use std::collections::VecDeque;
use std::io::SeekFrom;
use std::path::Path;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// How much of a log is read at once, in bytes.
const BLOCK: usize = 64 << 10;
/// What runtimes write at most as one line, with its head.
const LOG_LINE_BYTES_MAX: u64 = (16 << 10) + 128;

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// RFC 3339.
    pub time: &'a str,
    /// "stdout" or "stderr".
    pub stream: &'a str,
    /// The line goes on in the next one.
    pub partial: bool,
    /// What the container wrote.
    pub content: &'a [u8],
}

/// Parses a line without its newline; `None` where it is not in the format.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tags = parts.next()?;
    // Tags are separated by ":"; the first tells partial from full.
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    Some(Line { time, stream, partial, content: parts.next().unwrap_or_default() })
}

/// The offset in bytes at which the last `lines` lines begin.
pub async fn tail_start(file: &mut File, lines: usize) -> std::io::Result<u64> {
    let size = file.metadata().await?.len();
    if lines == 0 {
        return Ok(size);
    }
    // Newlines found so far, the earliest first: only the last `lines`+1 matter, and an unfinished line counts as none.
    let mut found: VecDeque<u64> = VecDeque::new();
    let mut end = size;
    let mut block = vec![0; BLOCK];
    while end > 0 && found.len() <= lines {
        let start = end.saturating_sub(BLOCK as u64);
        let length = usize::try_from(end - start).unwrap_or(BLOCK);
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block[..length]).await?;
        for (at, _) in block[..length].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            found.push_front(start + at as u64);
            if found.len() > lines {
                break;
            }
        }
        end = start;
    }
    Ok(if found.len() > lines { found[0] + 1 } else { 0 })
}

/// The last output of a log, as the container wrote it: at most `lines` lines and `bytes_max` bytes.
pub async fn end(path: &Path, lines: usize, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path).await?;
    let start = tail_start(&mut file, lines).await?;
    file.seek(SeekFrom::Start(start)).await?;
    let mut text = Vec::new();
    file.take(lines as u64 * LOG_LINE_BYTES_MAX).read_to_end(&mut text).await?;
    let mut output = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter_map(parse) {
        output.extend_from_slice(line.content);
        if !line.partial {
            output.push(b'\n');
        }
    }
    Ok(output.split_off(output.len().saturating_sub(bytes_max)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_time_stream_tag_and_content() {
        let line = parse(b"2026-01-01T00:00:00.5Z stderr P two words").expect("a line");
        assert_eq!((line.stream, line.partial, line.content), ("stderr", true, &b"two words"[..]));
        assert_eq!(parse(b"2026-01-01T00:00:00Z stdout F ").map(|line| line.content), Some(&b""[..]));
        assert_eq!(parse(b"rubbish"), None);
    }

    #[tokio::test]
    async fn the_end_of_a_log_is_what_was_written_last_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.log");
        let head = "2026-01-01T00:00:00Z stdout";
        for (log, lines, bytes, expected) in [
            (format!("{head} P DONE\n"), 80, 2048, "DONE"),
            (format!("{head} F one\n{head} F two\n"), 80, 2048, "one\ntwo\n"),
            (format!("{head} F one\n{head} F two\n"), 1, 2048, "two\n"),
            (format!("{head} F one\n{head} P two\n"), 80, 5, "e\ntwo"),
            (String::new(), 80, 2048, ""),
        ] {
            tokio::fs::write(&path, &log).await.expect("written");
            let found = end(&path, lines, bytes).await.expect("read");
            assert_eq!(String::from_utf8_lossy(&found), expected, "{log:?}");
        }
    }

    #[tokio::test]
    async fn the_tail_begins_at_the_nth_line_from_the_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.log");
        tokio::fs::write(&path, "one\ntwo\nthree\n").await.expect("written");
        let mut file = File::open(&path).await.expect("opened");
        for (lines, start) in [(0, 14), (1, 8), (2, 4), (3, 0), (9, 0)] {
            assert_eq!(tail_start(&mut file, lines).await.expect("a place"), start, "{lines} lines");
        }
    }
}
