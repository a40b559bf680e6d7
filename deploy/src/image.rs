//! OCI images from files of this machine: every image is a base layer, a layer of the shared libraries its programs need, and
//! a layer for each program. (OCI image specification 1.1, image layout in a tar archive.)

use anyhow::Context;
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, HistoryBuilder, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, Os, RootFsBuilder, SCHEMA_VERSION, Sha256Digest,
};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

/// What an image holds and runs.
pub struct Image {
    /// `ferrokube/pause:v1.35.0`, `nginx:1.23.3`.
    pub name: String,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: String,
    /// Files and folders of this machine, and where they go.
    pub files: Vec<(PathBuf, String)>,
    /// Files made up on the spot: path, mode, text.
    pub texts: Vec<(String, u32, String)>,
    /// Symbolic links: path, target.
    pub links: Vec<(String, String)>,
    /// Empty folders: path, mode.
    pub folders: Vec<(String, u32)>,
    /// Without it there is only what `files` names.
    pub base: bool,
}

impl Image {
    /// An image with the base layer that runs `entrypoint`.
    pub fn new(name: &str, entrypoint: &[&str]) -> Image {
        Image {
            name: name.to_owned(),
            entrypoint: entrypoint.iter().map(|s| s.to_string()).collect(),
            command: vec![],
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            working_dir: "/".into(),
            files: vec![],
            texts: vec![],
            links: vec![],
            folders: vec![],
            base: true,
        }
    }

    pub fn file(mut self, from: impl Into<PathBuf>, to: &str) -> Image {
        self.files.push((from.into(), to.to_owned()));
        self
    }

    pub fn text(mut self, path: &str, mode: u32, text: &str) -> Image {
        self.texts.push((path.to_owned(), mode, text.to_owned()));
        self
    }

    pub fn folder(mut self, path: &str, mode: u32) -> Image {
        self.folders.push((path.to_owned(), mode));
        self
    }
}

/// What every image with a base has: users, name lookup, CA certificates, a place for temporary files.
fn base_layer() -> anyhow::Result<Vec<u8>> {
    let mut layer = Layer::default();
    layer.folder("tmp", 0o1777)?;
    for folder in ["etc", "var", "var/log", "var/run", "run", "proc", "sys", "dev", "root", "usr", "usr/bin", "usr/lib"]
    {
        layer.folder(folder, 0o755)?;
    }
    layer.text("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n")?;
    layer.text("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n")?;
    layer.text("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n")?;
    let certificates = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if certificates.exists() {
        layer.file(certificates, "etc/ssl/certs/ca-certificates.crt")?;
    }
    layer.finish()
}

/// Folders that are links elsewhere: files keep the place their name says, since loaders look for them there.
#[derive(Default)]
struct Layer {
    entries: BTreeMap<String, Entry>,
}

enum Entry {
    Folder(u32),
    File(PathBuf),
    Text(u32, String),
    Link(String),
}

impl Layer {
    fn put(&mut self, path: &str, entry: Entry) {
        let path = path.trim_start_matches('/').to_owned();
        // Parents first, so that no reader has to make them up.
        for (i, _) in path.match_indices('/') {
            self.entries.entry(path[..i].to_owned()).or_insert(Entry::Folder(0o755));
        }
        self.entries.insert(path, entry);
    }

    fn folder(&mut self, path: &str, mode: u32) -> anyhow::Result<()> {
        self.put(path, Entry::Folder(mode));
        Ok(())
    }

    fn text(&mut self, path: &str, mode: u32, text: &str) -> anyhow::Result<()> {
        self.put(path, Entry::Text(mode, text.to_owned()));
        Ok(())
    }

    /// A file, or a folder with all that is in it.
    fn file(&mut self, from: &Path, to: &str) -> anyhow::Result<()> {
        let context = || format!("reading {} for an image", from.display());
        if from.is_dir() {
            self.put(to, Entry::Folder(0o755));
            for entry in fs::read_dir(from).with_context(context)? {
                let entry = entry.with_context(context)?;
                self.file(
                    &entry.path(),
                    &format!("{}/{}", to.trim_end_matches('/'), entry.file_name().to_string_lossy()),
                )?;
            }
        } else {
            let real = fs::canonicalize(from).with_context(context)?;
            self.put(to, Entry::File(real));
        }
        Ok(())
    }

    /// The layer as a tar archive. Times and owners are fixed, so that the same files give the same digest.
    fn finish(self) -> anyhow::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            match entry {
                Entry::Folder(mode) => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_size(0);
                    tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Entry::File(from) => {
                    use std::os::unix::fs::PermissionsExt;
                    let bytes = fs::read(from).with_context(|| format!("reading {} for an image", from.display()))?;
                    header.set_mode(fs::metadata(from)?.permissions().mode() & 0o7777);
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, path, bytes.as_slice())?;
                }
                Entry::Text(mode, text) => {
                    header.set_mode(*mode);
                    header.set_size(text.len() as u64);
                    tar.append_data(&mut header, path, text.as_bytes())?;
                }
                Entry::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

/// Shared libraries that a program needs, with the loader, as the system's own `ldd` finds them. None for static programs.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("running ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let paths = text.lines().filter_map(|line| {
        let line = line.trim();
        let path = line.split_once("=>").map_or(line, |(_, path)| path).trim();
        path.starts_with('/').then(|| PathBuf::from(path.split_whitespace().next().unwrap_or(path)))
    });
    Ok(paths.collect())
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let executable = fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    let library = path.to_string_lossy().contains(".so");
    let mut magic = [0; 4];
    (executable || library)
        && fs::File::open(path).and_then(|mut f| std::io::Read::read_exact(&mut f, &mut magic)).is_ok()
        && magic == *b"\x7fELF"
}

fn descriptor(media: MediaType, bytes: &[u8]) -> anyhow::Result<Descriptor> {
    let digest = Sha256Digest::from_str(&hex(&Sha256::digest(bytes)))?;
    Ok(DescriptorBuilder::default().media_type(media).digest(digest).size(bytes.len() as u64).build()?)
}

/// JSON whose keys are in order: `oci-spec` keeps annotations in hash maps, which would give every run its own digest.
fn ordered_json(document: impl serde::Serialize) -> anyhow::Result<Vec<u8>> {
    let mut value = serde_json::to_value(document)?;
    value.sort_all_objects();
    Ok(serde_json::to_vec(&value)?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The name as containerd knows images: with registry and library spelled out.
pub fn canonical_name(name: &str) -> String {
    let first = name.split('/').next().unwrap_or("");
    if name.contains('/') && (first.contains('.') || first.contains(':') || first == "localhost") {
        name.to_owned()
    } else if name.contains('/') {
        format!("docker.io/{name}")
    } else {
        format!("docker.io/library/{name}")
    }
}

/// Writes an image as an OCI layout in a tar archive that `ctr images import` and others read.
pub fn write_archive(image: &Image, path: &Path) -> anyhow::Result<()> {
    let mut layers = Vec::new();
    if image.base {
        layers.push(base_layer()?);
        let mut needed = BTreeSet::new();
        for (from, _) in &image.files {
            if is_program(from) {
                needed.extend(libraries(from)?);
            }
        }
        let mut layer = Layer::default();
        for library in needed {
            layer.file(&library, &library.to_string_lossy())?;
        }
        layers.push(layer.finish()?);
    }
    let mut layer = Layer::default();
    for (path, mode) in &image.folders {
        layer.folder(path, *mode)?;
    }
    for (path, mode, text) in &image.texts {
        layer.text(path, *mode, text)?;
    }
    for (path, target) in &image.links {
        layer.put(path, Entry::Link(target.clone()));
    }
    for (from, to) in &image.files {
        layer.file(from, to)?;
    }
    layers.push(layer.finish()?);

    let arch = if cfg!(target_arch = "aarch64") { Arch::ARM64 } else { Arch::Amd64 };
    let digests: Vec<String> = layers.iter().map(|l| format!("sha256:{}", hex(&Sha256::digest(l)))).collect();
    let config = ConfigBuilder::default()
        .entrypoint(image.entrypoint.clone())
        .cmd(image.command.clone())
        .env(image.env.clone())
        .working_dir(image.working_dir.clone())
        .build()?;
    let history = layers
        .iter()
        .map(|_| HistoryBuilder::default().created_by("ferrokube images").build())
        .collect::<Result<Vec<_>, _>>()?;
    let configuration = ImageConfigurationBuilder::default()
        .architecture(arch)
        .os(Os::Linux)
        .config(config)
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids(digests).build()?)
        .history(history)
        .build()?;
    let configuration = ordered_json(configuration)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, &configuration)?)
        .layers(layers.iter().map(|l| descriptor(MediaType::ImageLayer, l)).collect::<anyhow::Result<Vec<_>>>()?)
        .build()?;
    let manifest = ordered_json(manifest)?;
    let name = canonical_name(&image.name);
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag).to_owned();
    let mut listed = descriptor(MediaType::ImageManifest, &manifest)?;
    listed.set_annotations(Some(HashMap::from([
        ("io.containerd.image.name".to_owned(), name),
        ("org.opencontainers.image.ref.name".to_owned(), tag),
    ])));
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![listed])
        .build()?;

    let file = fs::File::create(path).with_context(|| format!("writing {}", path.display()))?;
    let mut tar = tar::Builder::new(std::io::BufWriter::new(file));
    let mut add = |path: String, bytes: &[u8]| -> std::io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.set_mtime(0);
        tar.append_data(&mut header, path, bytes)
    };
    add("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json".into(), &ordered_json(index)?)?;
    let mut written = BTreeSet::new();
    for blob in layers.iter().chain([&configuration, &manifest]) {
        let digest = hex(&Sha256::digest(blob));
        if written.insert(digest.clone()) {
            add(format!("blobs/sha256/{digest}"), blob)?;
        }
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_out() {
        for (name, canonical) in [
            ("nginx:1.23.3", "docker.io/library/nginx:1.23.3"),
            ("ferrokube/pause:v1", "docker.io/ferrokube/pause:v1"),
            ("example.com/a/b:1", "example.com/a/b:1"),
            ("localhost:5000/a:1", "localhost:5000/a:1"),
        ] {
            assert_eq!(canonical_name(name), canonical);
        }
    }

    #[test]
    fn the_same_files_give_the_same_archive() {
        let folder = tempfile::tempdir().unwrap();
        let image =
            Image { base: false, ..Image::new("a/b:1", &["/x"]) }.text("/x", 0o755, "hello").folder("/data", 0o700);
        let (one, two) = (folder.path().join("1.tar"), folder.path().join("2.tar"));
        write_archive(&image, &one).unwrap();
        write_archive(&image, &two).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        let mut tar = tar::Archive::new(fs::File::open(&one).unwrap());
        let names: Vec<String> =
            tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned()).collect();
        assert!(
            names.contains(&"index.json".to_owned())
                && names.iter().filter(|n| n.starts_with("blobs/sha256/")).count() == 3
        );
    }
}
