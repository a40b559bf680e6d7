//! hostPath: a file or directory of the node, checked or made as its type says.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::usage::Measure;
use super::{MountedVolume, VolumeError, blocking, io, ownership};

pub async fn setup(source: &HostPathVolumeSource) -> Result<MountedVolume, VolumeError> {
    let path = PathBuf::from(&source.path);
    let type_ = source.type_.clone().unwrap_or_default();
    let checked = path.clone();
    blocking(move || check(&checked, &type_)).await?;
    Ok(MountedVolume { path, read_only: false, selinux_relabel: false, measure: Measure::Nothing })
}

fn check(path: &Path, type_: &str) -> Result<(), VolumeError> {
    match type_ {
        "DirectoryOrCreate" if !path.exists() => {
            std::fs::create_dir_all(path).map_err(io("creating", path))?;
            return ownership::set_mode(path, 0o755).map_err(io("setting the mode of", path));
        }
        "FileOrCreate" if !path.exists() => {
            std::fs::File::create_new(path).map_err(io("creating", path))?;
            return ownership::set_mode(path, 0o644).map_err(io("setting the mode of", path));
        }
        _ => {}
    }
    let kind = std::fs::metadata(path).map(|meta| meta.file_type());
    let is = |test: fn(&std::fs::FileType) -> bool| kind.as_ref().is_ok_and(test);
    let (right, what) = match type_ {
        "" => return Ok(()),
        "Directory" | "DirectoryOrCreate" => (is(std::fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(std::fs::FileType::is_file), "a file"),
        "Socket" => (is(FileTypeExt::is_socket), "a socket file"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "a block device"),
        other => return Err(VolumeError::Invalid(format!("{other} is an invalid volume type"))),
    };
    if right {
        Ok(())
    } else {
        Err(VolumeError::Invalid(format!("hostPath type check failed: {} is not {what}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_missing_things_made_where_asked() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        let made = dir.path().join("a/b");
        for (path, type_, ok) in [
            (dir.path(), "Directory", true),
            (dir.path(), "File", false),
            (file.as_path(), "", true),
            (file.as_path(), "File", false),
            (file.as_path(), "FileOrCreate", true),
            (file.as_path(), "File", true),
            (file.as_path(), "DirectoryOrCreate", false),
            (made.as_path(), "DirectoryOrCreate", true),
            (Path::new("/dev/null"), "CharDevice", true),
            (Path::new("/dev/null"), "Socket", false),
        ] {
            assert_eq!(check(path, type_).is_ok(), ok, "{} as {type_:?}", path.display());
        }
    }
}
