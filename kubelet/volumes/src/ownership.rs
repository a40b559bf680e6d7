//! fsGroup: a volume belongs to a group that every container of the pod is in.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

/// Sets permission bits, free of the umask.
pub fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Gives one file or directory to `group`: group may read (and write, unless `read_only`); directories pass the group on.
pub fn give(path: &Path, group: i64, read_only: bool) -> std::io::Result<()> {
    let meta = std::fs::symlink_metadata(path)?;
    let gid = u32::try_from(group).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    if meta.is_symlink() {
        return std::os::unix::fs::lchown(path, None, Some(gid));
    }
    chown(path, None, Some(gid))?;
    let mut add = if read_only { 0o440 } else { 0o660 };
    if meta.is_dir() {
        add |= 0o2110;
    }
    set_mode(path, meta.permissions().mode() & 0o7777 | add)
}

/// Gives a whole tree to `group`, never following a symlink out of it.
pub fn give_tree(path: &Path, group: i64, read_only: bool) -> std::io::Result<()> {
    let mut todo = vec![path.to_path_buf()];
    while let Some(path) = todo.pop() {
        give(&path, group, read_only)?;
        if std::fs::symlink_metadata(&path)?.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                todo.push(entry?.path());
            }
        }
    }
    Ok(())
}
