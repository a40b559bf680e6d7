//! Reading a container's log: from a point in time or some lines before the end, with or without following.

use std::collections::VecDeque;
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::inotify::{AddWatchFlags, Changes};
use crate::kubelet::Kubelet;
use crate::pod::runtime::{Instance, State};

const BLOCK: usize = 64 << 10;
/// A line without end is cut here; runtimes cut at 16 KiB.
const LINE_BYTES_MAX: usize = 1 << 20;
/// What runtimes write at most as one line, with its head.
const LOG_LINE_BYTES_MAX: u64 = (16 << 10) + 128;
/// How often a silent log's container is checked for being alive.
const LIVENESS_PERIOD: Duration = Duration::from_secs(1);

/// What of the log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub follow: bool,
    pub timestamps: bool,
    /// Lines before the end.
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub limit_bytes: Option<usize>,
    /// "stdout" or "stderr" alone.
    pub stream: Option<&'static str>,
}

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    time: &'a str,
    stream: &'a str,
    partial: bool,
    content: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tags = parts.next()?;
    // Tags are separated by ":"; the first tells partial from full.
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    Some(Line { time, stream, partial, content: parts.next().unwrap_or_default() })
}

/// A log being read.
pub struct Reader {
    kubelet: Arc<Kubelet>,
    instance: Arc<Instance>,
    path: PathBuf,
    file: File,
    inode: u64,
    pending: BytesMut,
    options: Options,
    left: usize,
    changes: Option<Changes>,
    /// The container has ended: what is in the file now is all.
    ended: bool,
}

impl Reader {
    /// Opens an instance's log at the place that `options` ask for.
    pub async fn open(kubelet: Arc<Kubelet>, instance: Arc<Instance>, options: Options) -> std::io::Result<Self> {
        let path = PathBuf::from(&instance.log_path);
        let changes = options.follow.then(|| watch(&path)).flatten();
        let mut file = File::open(&path).await?;
        if let Some(lines) = options.tail {
            let start = tail_start(&mut file, lines).await?;
            file.seek(SeekFrom::Start(start)).await?;
        }
        Ok(Self {
            inode: file.metadata().await?.ino(),
            left: options.limit_bytes.unwrap_or(usize::MAX),
            ended: instance.state != State::Running,
            kubelet,
            instance,
            path,
            file,
            pending: BytesMut::new(),
            options,
            changes,
        })
    }

    /// The next piece of output; `None` at the end, which a followed log has when its container ends.
    pub async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        while self.left > 0 {
            self.pending.reserve(BLOCK);
            let ended = self.ended;
            if self.file.read_buf(&mut self.pending).await? > 0 {
                let output = self.take_lines();
                if !output.is_empty() {
                    return Ok(Some(output));
                }
                continue;
            }
            if !self.options.follow || ended {
                return Ok(None);
            }
            if !self.reopen_if_rotated().await? {
                self.wait().await;
            }
        }
        Ok(None)
    }

    /// Formats all complete lines that have been read.
    fn take_lines(&mut self) -> Bytes {
        let mut output = BytesMut::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line = self.pending.split_to(end + 1);
            self.format(&line[..end], &mut output);
            if self.left == 0 {
                break;
            }
        }
        if self.pending.len() > LINE_BYTES_MAX {
            self.pending.clear();
        }
        output.freeze()
    }

    fn format(&mut self, line: &[u8], output: &mut BytesMut) {
        let Some(line) = parse(line) else { return };
        if self.options.stream.is_some_and(|stream| stream != line.stream) {
            return;
        }
        if let Some(since) = self.options.since
            && line.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return;
        }
        let before = output.len();
        if self.options.timestamps {
            output.extend_from_slice(line.time.as_bytes());
            output.extend_from_slice(b" ");
        }
        output.extend_from_slice(line.content);
        if !line.partial {
            output.extend_from_slice(b"\n");
        }
        let written = (output.len() - before).min(self.left);
        output.truncate(before + written);
        self.left -= written;
    }

    /// Goes on with the new file where the log was rotated.
    async fn reopen_if_rotated(&mut self) -> std::io::Result<bool> {
        match tokio::fs::metadata(&self.path).await {
            Ok(meta) if meta.ino() != self.inode => {
                self.file = File::open(&self.path).await?;
                self.inode = self.file.metadata().await?.ino();
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Waits for the log to grow, and learns whether the container has ended.
    async fn wait(&mut self) {
        let changed = async {
            match &self.changes {
                Some(changes) => changes.changed().await,
                None => std::future::pending().await,
            }
        };
        if tokio::time::timeout(LIVENESS_PERIOD, changed).await.is_err() {
            self.ended = match self.kubelet.cri.container_status(&self.instance.id).await {
                Ok(status) => status.state() != proto::cri::ContainerState::ContainerRunning,
                Err(error) => error.is_not_found(),
            };
        }
    }
}

fn watch(path: &Path) -> Option<Changes> {
    // The directory: it sees writes to the file and its successor after a rotation.
    Changes::watch(path.parent()?, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE).ok()
}

/// Where the last `lines` lines begin.
async fn tail_start(file: &mut File, lines: usize) -> std::io::Result<u64> {
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
