//! Which version this build is, as `/version` and `--version` say it.
//!
//! ```
//! use component_base::version;
//! assert_eq!(version::info().git_version, version::GIT_VERSION);
//! ```

use serde::Serialize;

/// The version of Kubernetes this build behaves as, with our mark as build metadata (semver §10).
pub const GIT_VERSION: &str = "v1.35.0+ferrokube";

/// The body of `GET /version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    pub major: &'static str,
    pub minor: &'static str,
    pub emulation_major: &'static str,
    pub emulation_minor: &'static str,
    pub min_compatibility_major: &'static str,
    pub min_compatibility_minor: &'static str,
    pub git_version: &'static str,
    pub git_commit: &'static str,
    pub git_tree_state: &'static str,
    pub build_date: &'static str,
    pub go_version: &'static str,
    pub compiler: &'static str,
    pub platform: &'static str,
}

/// What this build is.
pub fn info() -> Info {
    Info {
        major: "1",
        minor: "35",
        emulation_major: "1",
        emulation_minor: "35",
        min_compatibility_major: "1",
        min_compatibility_minor: "34",
        git_version: GIT_VERSION,
        git_commit: option_env!("FERROKUBE_GIT_COMMIT").unwrap_or("unknown"),
        git_tree_state: "clean",
        build_date: option_env!("FERROKUBE_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        // Clients print the field; there is no Go in here.
        go_version: "",
        compiler: "rustc",
        platform: if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" },
    }
}

/// The `User-Agent` of a component, in upstream's form: `kubelet/v1.35.0 (linux/amd64) kubernetes/unknown`.
pub fn user_agent(component: &str) -> String {
    let info = info();
    format!("{component}/{} ({}) kubernetes/{}", info.git_version, info.platform, info.git_commit)
}
