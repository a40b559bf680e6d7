//! inotify as something to await.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

pub use nix::sys::inotify::AddWatchFlags;
use nix::sys::inotify::{InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

struct Fd(Inotify);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Changes below one path.
pub struct Changes(AsyncFd<Fd>);

impl Changes {
    /// Watches `path` for `flags`. An error is mostly "no such file" or the limit of watches (fs.inotify.max_user_*).
    pub fn watch(path: &Path, flags: AddWatchFlags) -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(path, flags)?;
        // SAFETY: `Fd` owns its descriptor, which stays open and the same for as long as it lives.
        Ok(Self(unsafe { AsyncFd::register(Fd(inotify))? }))
    }

    /// Waits until something has changed since the last call; what it was is for the caller to see.
    pub async fn changed(&self) {
        if let Ok(mut ready) = self.0.readable().await {
            while self.0.get_ref().0.read_events().is_ok_and(|events| !events.is_empty()) {}
            ready.clear_ready();
        }
    }
}
