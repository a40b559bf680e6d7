//! Writes a set of files so that a reader sees either all of the old or all of the new.
//!
//! Files live in a directory `..<timestamp>`; `..data` is a symlink to it, replaced by rename; what users see are
//! symlinks through `..data`. The layout is upstream's, and programs that watch for updates (inotify on `..data`) rely
//! on it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path};

use super::{VolumeError, io, ownership};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Who owns it, where that is not root.
    pub uid: Option<u32>,
}

/// Files by their path in the volume.
pub type Payload = BTreeMap<String, File>;

/// Makes the volume at `dir` hold exactly `payload`. Does nothing where it does already.
pub fn write(dir: &Path, payload: &Payload, group: Option<i64>) -> Result<(), VolumeError> {
    for path in payload.keys() {
        check(path)?;
    }
    let data = dir.join(DATA);
    let current = std::fs::read_link(&data).ok();
    if current.as_ref().is_none_or(|current| !is_same(&dir.join(current), payload)) {
        let name = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%N").to_string();
        let fresh = dir.join(&name);
        std::fs::create_dir(&fresh).map_err(io("creating", &fresh))?;
        ownership::set_mode(&fresh, 0o755).map_err(io("setting the mode of", &fresh))?;
        for (path, file) in payload {
            write_file(&fresh.join(path), file)?;
        }
        if let Some(group) = group {
            ownership::give_tree(&fresh, group, true).map_err(io("giving to fsGroup", &fresh))?;
        }
        let link = dir.join(DATA_NEW);
        let _ = std::fs::remove_file(&link);
        symlink(&name, &link).map_err(io("linking", &link))?;
        std::fs::rename(&link, &data).map_err(io("replacing", &data))?;
        if let Some(current) = current {
            let old = dir.join(current);
            std::fs::remove_dir_all(&old).map_err(io("removing", &old))?;
        }
    }
    link_visible(dir, payload)
}

/// Links the first component of each path, and unlinks what is no longer there.
fn link_visible(dir: &Path, payload: &Payload) -> Result<(), VolumeError> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = dir.join(name);
        if std::fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(io("linking", &link))?;
        }
    }
    for entry in std::fs::read_dir(dir).map_err(io("reading", dir))? {
        let entry = entry.map_err(io("reading", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            std::fs::remove_file(entry.path()).map_err(io("removing", &entry.path()))?;
        }
    }
    Ok(())
}

fn write_file(path: &Path, file: &File) -> Result<(), VolumeError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(io("creating", parent))?;
    }
    std::fs::write(path, &file.data).map_err(io("writing", path))?;
    ownership::set_mode(path, file.mode).map_err(io("setting the mode of", path))?;
    match file.uid {
        Some(uid) => chown(path, Some(uid), None).map_err(io("setting the owner of", path)),
        None => Ok(()),
    }
}

/// `dir` holds the payload's files, and no others.
fn is_same(dir: &Path, payload: &Payload) -> bool {
    let same = |(path, file): (&String, &File)| {
        let path = dir.join(path);
        std::fs::read(&path).is_ok_and(|data| data == file.data)
            // Group bits may have been widened for fsGroup.
            && std::fs::metadata(&path).is_ok_and(|meta| meta.permissions().mode() & 0o707 == file.mode & 0o707)
    };
    payload.iter().all(same) && count(dir) == Some(payload.len())
}

fn count(dir: &Path) -> Option<usize> {
    let mut files = 0;
    for entry in std::fs::read_dir(dir).ok()? {
        let entry = entry.ok()?;
        files += if entry.file_type().ok()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Some(files)
}

/// Paths stay inside the volume and clear of the writer's own names.
fn check(path: &str) -> Result<(), VolumeError> {
    let plain = Path::new(path).components().all(|component| matches!(component, Component::Normal(_)));
    if path.is_empty() || !plain || path.starts_with("..") {
        return Err(VolumeError::Invalid(format!(
            "invalid path {path:?} in volume: it must be relative and without \"..\""
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| File { data: data.as_bytes().to_vec(), mode: 0o644, uid: None };
        files.iter().map(|(path, data)| ((*path).to_owned(), file(data))).collect()
    }

    #[test]
    fn an_update_replaces_all_files_at_once_and_an_equal_one_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let read = |path: &str| std::fs::read_to_string(dir.path().join(path)).ok();
        let target = || std::fs::read_link(dir.path().join(DATA)).expect("a link");

        write(dir.path(), &payload(&[("a", "1"), ("sub/b", "2")]), None).expect("written");
        assert_eq!((read("a").as_deref(), read("sub/b").as_deref()), (Some("1"), Some("2")));
        let first = target();
        write(dir.path(), &payload(&[("a", "1"), ("sub/b", "2")]), None).expect("written");
        assert_eq!(target(), first, "nothing changed, so nothing is rewritten");

        write(dir.path(), &payload(&[("a", "3")]), None).expect("written");
        assert_eq!((read("a").as_deref(), read("sub/b")), (Some("3"), None));
        assert!(!dir.path().join(first).exists() && !dir.path().join("sub").exists());
    }

    #[test]
    fn paths_out_of_the_volume_are_refused() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "..data"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(check("a/b..c").is_ok());
    }
}
