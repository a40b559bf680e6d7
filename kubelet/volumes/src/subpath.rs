//! subPath: a part of a volume, mounted into one container.
//!
//! A container may plant symlinks in its volume to reach the node's files through a later container's subPath
//! (CVE-2017-1002101). So the path is opened with openat2 inside the volume as its root, and the open file itself is
//! bind-mounted: nothing can change between check and use.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

use super::{MountedVolume, VolumeError, blocking, io, mounts};

/// Mounts `sub_path` of `volume` at `target`, making it as a directory where it doesn't exist. Returns what to give the
/// container. Idempotent.
pub async fn bind(volume: &MountedVolume, sub_path: &str, target: &Path) -> Result<PathBuf, VolumeError> {
    let (root, sub_path, target) = (volume.path.clone(), sub_path.to_owned(), target.to_path_buf());
    blocking(move || {
        let plain = Path::new(&sub_path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !plain {
            return Err(VolumeError::Invalid(format!("subPath {sub_path:?} must be relative and without \"..\"")));
        }
        let source = open(&root, &sub_path)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
        let is_dir = std::fs::metadata(&path).map_err(io("looking at", &path))?.is_dir();
        // A restart of the container finds the mount of the last one; the volume below may have been rewritten since.
        mounts::unmount_below(&target)?;
        if is_dir {
            std::fs::create_dir_all(&target).map_err(io("creating", &target))?;
        } else if !target.exists() {
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).map_err(io("creating", parent))?;
            }
            std::fs::File::create(&target).map_err(io("creating", &target))?;
        }
        mounts::bind(&path, &target)?;
        Ok(target)
    })
    .await
}

fn open(root: &Path, sub_path: &str) -> Result<OwnedFd, VolumeError> {
    let open_at = |path: &Path| {
        let dir = nix::fcntl::open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        openat2(&dir, path, how)
    };
    let path = Path::new(sub_path);
    match open_at(path) {
        Err(nix::errno::Errno::ENOENT) => {
            make_dirs(root, path, &open_at)?;
            open_at(path).map_err(|errno| io("opening", path)(errno.into()))
        }
        other => other.map_err(|errno| io("opening", path)(errno.into())),
    }
}

/// Makes each missing directory on the way, every one in a parent that was itself opened inside the root, and as
/// accessible as the root.
fn make_dirs(root: &Path, path: &Path, open_at: &dyn Fn(&Path) -> nix::Result<OwnedFd>) -> Result<(), VolumeError> {
    let mode = std::fs::metadata(root).map_err(io("looking at", root))?.permissions().mode();
    let mode = Mode::from_bits_truncate(mode & 0o777);
    let mut done = PathBuf::from(".");
    for component in path.components() {
        let parent = open_at(&done).map_err(|errno| io("opening", root)(errno.into()))?;
        let made = nix::sys::stat::mkdirat(&parent, component.as_os_str(), mode);
        done.push(component);
        match made {
            // The umask may have taken something away.
            Ok(()) => open_at(&done)
                .and_then(|fd| {
                    std::fs::set_permissions(
                        format!("/proc/self/fd/{}", fd.as_raw_fd()),
                        PermissionsExt::from_mode(mode.bits()),
                    )
                    .map_err(|_| nix::errno::Errno::EPERM)
                })
                .map_err(|errno| io("setting the mode of", path)(errno.into()))?,
            Err(nix::errno::Errno::EEXIST) => {}
            Err(errno) => return Err(io("creating", path)(errno.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_can_not_lead_out_of_the_volume() {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("volume");
        std::fs::create_dir(&volume).expect("made");
        std::fs::write(dir.path().join("secret"), "s").expect("written");
        std::os::unix::fs::symlink(dir.path(), volume.join("out")).expect("linked");
        let fd = open(&volume, "new/deep").expect("made and opened");
        assert!(volume.join("new/deep").is_dir());
        drop(fd);
        // Inside the volume as root, the absolute link points nowhere; following it makes nothing outside.
        assert!(open(&volume, "out/secret").is_err());
    }
}
