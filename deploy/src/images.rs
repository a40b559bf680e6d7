//! Which images there are: our own, etcd, and for trying things out a few real programs of this machine.

use crate::image::{Image, write_archive};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// Tag of our own images.
pub const VERSION: &str = "v1.35.0";

pub fn name(component: &str) -> String {
    format!("ferrokube/{component}:{VERSION}")
}

/// The folder of the programs: where this one is.
pub fn programs() -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe().context("finding this program")?;
    Ok(me.parent().map(Path::to_owned).unwrap_or_default())
}

/// An image of one of our programs.
fn ours(component: &str) -> anyhow::Result<Image> {
    let path = format!("/usr/local/bin/{component}");
    Ok(Image::new(&name(component), &[&path]).file(programs()?.join(component), &path))
}

/// Images that the cluster itself needs.
pub fn cluster() -> anyhow::Result<Vec<Image>> {
    let mut images = control_plane()?;
    images.extend(node()?);
    Ok(images)
}

/// What every node may have to run.
pub fn node() -> anyhow::Result<Vec<Image>> {
    Ok(vec![
        Image { base: true, ..Image::new(&name("pause"), &["/pause"]) }.file(programs()?.join("pause"), "/pause"),
        ours("kube-proxy")?.file("/usr/sbin/nft", "/usr/sbin/nft").file("/usr/sbin/conntrack", "/usr/sbin/conntrack"),
        ours("cluster-network")?.file("/usr/sbin/nft", "/usr/sbin/nft"),
        ours("cluster-dns")?,
    ])
}

/// What the static pods of a control plane node run.
fn control_plane() -> anyhow::Result<Vec<Image>> {
    Ok(vec![
        Image::new(&name("etcd"), &["/usr/bin/etcd"])
            .file("/usr/bin/etcd", "/usr/bin/etcd")
            .file("/usr/bin/etcdctl", "/usr/bin/etcdctl"),
        ours("kube-apiserver")?,
        ours("kube-controller-manager")?,
        ours("kube-scheduler")?,
    ])
}

/// Images under well-known names, from packages of this machine, where they are installed: for tests and first steps without
/// a registry.
pub fn samples() -> Vec<Image> {
    let mut images = Vec::new();
    let has = |path: &str| Path::new(path).exists();
    if let Some(busybox) = busybox() {
        for tag in ["1.36", "latest"] {
            let mut image = with_busybox(Image::new(&format!("busybox:{tag}"), &[]), &busybox);
            image.command = vec!["sh".into()];
            images.push(image);
        }
    }
    if has("/usr/sbin/nginx") {
        for tag in ["1.23.3", "1.24", "latest"] {
            images.push(nginx(&format!("nginx:{tag}"), tag));
        }
    }
    if has("/usr/bin/memcached") {
        let mut image =
            Image::new("memcached:1.6", &["/usr/bin/memcached"]).file("/usr/bin/memcached", "/usr/bin/memcached");
        image.command = ["-u", "root"].map(String::from).into();
        images.push(image);
    }
    if has("/usr/bin/redis-server") {
        images.push(
            Image::new("redis:7", &["/usr/bin/redis-server"])
                .file("/usr/bin/redis-server", "/usr/bin/redis-server")
                .file("/usr/bin/redis-cli", "/usr/bin/redis-cli")
                .folder("/data", 0o777),
        );
    }
    images
}

/// A busybox: the one that `deploy/up` unpacked beside the build, else the system's.
fn busybox() -> Option<PathBuf> {
    let unpacked = programs().ok().and_then(|p| Some(p.parent()?.join("samples/bin/busybox")));
    unpacked.into_iter().chain(["/bin/busybox".into(), "/usr/bin/busybox".into()]).find(|p| p.exists())
}

/// The shell and its tools, for images that people look into with `kubectl exec`.
fn with_busybox(mut image: Image, busybox: &Path) -> Image {
    image.links.extend(applets(busybox).into_iter().map(|a| (format!("/bin/{a}"), "busybox".to_owned())));
    image.file(busybox, "/bin/busybox")
}

fn applets(busybox: &Path) -> Vec<String> {
    let output = std::process::Command::new(busybox).arg("--list").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.lines().filter(|a| *a != "busybox").map(str::to_owned).collect()
}

fn nginx(name: &str, tag: &str) -> Image {
    let config = "worker_processes 1;\nerror_log stderr notice;\npid /run/nginx.pid;\ndaemon off;\n\
        events { worker_connections 512; }\n\
        http {\n  include /etc/nginx/mime.types;\n  default_type application/octet-stream;\n  access_log /dev/stdout;\n  server {\n    listen 80;\n    \
        root /usr/share/nginx/html;\n    index index.html;\n  }\n}\n";
    let page = format!(
        "<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1><p>{tag}</p></body></html>\n"
    );
    let mut image = Image::new(name, &["/usr/sbin/nginx"])
        .file("/usr/sbin/nginx", "/usr/sbin/nginx")
        .text("/etc/nginx/nginx.conf", 0o644, config)
        .text("/usr/share/nginx/html/index.html", 0o644, &page)
        .folder("/var/lib/nginx", 0o755)
        .folder("/var/log/nginx", 0o755);
    for file in ["/etc/nginx/mime.types"] {
        if Path::new(file).exists() {
            image = image.file(file, file);
        }
    }
    image.command = ["-g", "user root;"].map(String::from).into();
    match busybox() {
        Some(busybox) => with_busybox(image, &busybox),
        None => image,
    }
}

/// A file name for an image's archive.
pub fn file_name(image: &Image) -> String {
    format!("{}.tar", image.name.replace(['/', ':'], "_"))
}

/// Writes all images into a folder.
pub fn write_all(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    for image in cluster()?.iter().chain(&samples()) {
        let path = folder.join(file_name(image));
        write_archive(image, &path).with_context(|| format!("making the image {}", image.name))?;
        println!("{}  {}", image.name, path.display());
    }
    Ok(())
}
