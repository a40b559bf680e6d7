//! What volumes use: measured when someone asks, and not again for a while (`volumeStatsAggPeriod`), as a large tree takes
//! its time.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use machine::Filesystem;
use parking_lot::Mutex;

use super::MountedVolumes;

/// How the use of a volume is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// It isn't: the host's own directories are not the pod's.
    Nothing,
    /// By walking its files: it shares a file system with others.
    Files,
    /// By asking the file system, which is the volume's alone.
    Filesystem,
}

/// Bytes and inodes of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub bytes: u64,
    pub inodes: u64,
}

impl std::ops::AddAssign for Tree {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// One volume's use.
#[derive(Clone, Debug)]
pub struct VolumeUsage {
    pub name: String,
    /// What the pod's files take.
    pub used: Tree,
    /// The file system that the volume is on.
    pub filesystem: Filesystem,
}

/// Walks a tree without leaving its file system, counting a file with several names once. What goes while one looks is
/// not counted.
pub fn tree(root: &Path) -> Tree {
    let Ok(top) = std::fs::symlink_metadata(root) else { return Tree::default() };
    let mut used = Tree::default();
    let mut linked: HashSet<u64> = HashSet::new();
    let mut todo: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.dev() != top.dev() || (meta.nlink() > 1 && !meta.is_dir() && !linked.insert(meta.ino())) {
            continue;
        }
        used += Tree { bytes: meta.blocks() * 512, inodes: 1 };
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    used
}

fn measure(volumes: &MountedVolumes) -> Vec<VolumeUsage> {
    let mut usages: Vec<VolumeUsage> = volumes
        .iter()
        .filter_map(|(name, volume)| {
            let filesystem = machine::filesystem(&volume.path).ok()?;
            let used = match volume.measure {
                Measure::Nothing => return None,
                Measure::Files => tree(&volume.path),
                Measure::Filesystem => Tree {
                    bytes: filesystem.capacity_bytes.saturating_sub(filesystem.available_bytes),
                    inodes: filesystem.inodes.saturating_sub(filesystem.inodes_free),
                },
            };
            Some(VolumeUsage { name: name.clone(), used, filesystem })
        })
        .collect();
    usages.sort_by(|a, b| a.name.cmp(&b.name));
    usages
}

#[derive(Default)]
struct Entry {
    volumes: MountedVolumes,
    measured: Option<(Instant, Arc<Vec<VolumeUsage>>)>,
}

/// The mounted volumes of the node's pods, by pod uid, and their use as last measured.
#[derive(Default)]
pub struct Usages(Mutex<HashMap<String, Entry>>);

impl Usages {
    /// The pod has these volumes.
    pub fn mounted(&self, uid: &str, volumes: &MountedVolumes) {
        self.0.lock().entry(uid.to_owned()).or_default().volumes = volumes.clone();
    }

    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// The use of the pod's volumes, not older than `age_max`.
    pub async fn of(&self, uid: &str, age_max: Duration) -> Arc<Vec<VolumeUsage>> {
        let volumes = match self.0.lock().get(uid) {
            None => return Arc::default(),
            Some(Entry { measured: Some((at, usages)), .. }) if at.elapsed() < age_max => return usages.clone(),
            Some(entry) => entry.volumes.clone(),
        };
        let usages = tokio::task::spawn_blocking(move || measure(&volumes)).await.unwrap_or_default();
        let usages = Arc::new(usages);
        if let Some(entry) = self.0.lock().get_mut(uid) {
            entry.measured = Some((Instant::now(), usages.clone()));
        }
        usages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_the_blocks_of_its_files_each_counted_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let empty = tree(dir.path());
        assert_eq!(empty.inodes, 1);
        std::fs::write(dir.path().join("a"), vec![1; 1 << 20]).expect("written");
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).expect("linked");
        std::os::unix::fs::symlink("/", dir.path().join("outside")).expect("linked");
        let full = tree(dir.path());
        assert_eq!(full.inodes, 3);
        assert!((1 << 20..2 << 20).contains(&(full.bytes - empty.bytes)), "{full:?}");
        assert_eq!(tree(&dir.path().join("missing")), Tree::default());
    }
}
