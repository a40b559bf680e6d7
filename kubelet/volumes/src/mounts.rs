//! Mounting and unmounting.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{VolumeError, io};

/// Something is mounted at `path`.
pub fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    path.parent().is_some_and(|parent| device(path).is_some() && device(path) != device(parent))
}

/// Mounts a tmpfs of at most `bytes_max` (default: half of memory) at `path`, unless one is there.
pub fn tmpfs(path: &Path, bytes_max: Option<i64>) -> Result<(), VolumeError> {
    if is_mount_point(path) {
        return Ok(());
    }
    let options = bytes_max.map(|bytes| format!("size={bytes}"));
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), options.as_deref())
        .map_err(|errno| io("mounting tmpfs at", path)(errno.into()))
}

/// Mounts `source` at `target` too.
pub fn bind(source: &Path, target: &Path) -> Result<(), VolumeError> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|errno| io("bind-mounting", target)(errno.into()))
}

/// Undoes the octal escapes of /proc/self/mountinfo.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Mount points below `dir` in the text of mountinfo, innermost and latest first.
fn below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    points.reverse();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    points
}

/// Unmounts everything at or below `dir`.
pub fn unmount_below(dir: &Path) -> Result<(), VolumeError> {
    let mountinfo =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(io("reading", Path::new("/proc/self/mountinfo")))?;
    for point in below(&mountinfo, dir) {
        umount2(&point, MntFlags::UMOUNT_NOFOLLOW).map_err(|errno| io("unmounting", &point)(errno.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_taken_down_innermost_first_and_only_below_the_directory() {
        let text = "1 0 0:1 / / rw - x x rw\n2 1 0:2 / /p/a rw - x x rw\n3 2 0:3 / /p/a/b rw - x x rw\n\
                    4 1 0:4 / /pother rw - x x rw\n5 1 0:5 / /p/with\\040space rw - x x rw\n";
        let points = below(text, Path::new("/p"));
        assert_eq!(points, ["/p/a/b", "/p/with space", "/p/a"].map(PathBuf::from));
    }
}
