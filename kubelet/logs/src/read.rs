//! Reading a container's log: from a point in time or some lines before the end, with or without following.

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cri_client::Cri;
use jiff::Timestamp;
use machine::inotify::{AddWatchFlags, Changes};
use pod_state::log::{parse, tail_start};
use pod_state::runtime::{Instance, State};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

const BLOCK: usize = 64 << 10;
/// A line without end is cut here; runtimes cut at 16 KiB.
const LINE_BYTES_MAX: usize = 1 << 20;
/// How often a silent log's container is checked for being alive.
const LIVENESS_PERIOD: Duration = Duration::from_secs(1);

/// What of the log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Goes on until the container ends.
    pub follow: bool,
    /// Puts the time before each line.
    pub timestamps: bool,
    /// Lines before the end.
    pub tail: Option<usize>,
    /// Nothing before this.
    pub since: Option<Timestamp>,
    /// Bytes of output, timestamps included.
    pub limit_bytes: Option<usize>,
    /// "stdout" or "stderr" alone.
    pub stream: Option<&'static str>,
}

/// A log being read.
pub struct Reader {
    cri: Cri,
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
    pub async fn open(cri: Cri, instance: Arc<Instance>, options: Options) -> std::io::Result<Self> {
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
            cri,
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
            self.ended = match self.cri.container_status(&self.instance.id).await {
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
