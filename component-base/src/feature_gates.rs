//! Feature gates: what of v1.35 is on, by default and by `--feature-gates`.
//!
//! Every component knows every gate, so that one list of flags can start all of them. The table is `feature_gates.txt`.
//!
//! ```
//! use component_base::feature_gates::FeatureGates;
//!
//! let gates: FeatureGates = "AllAlpha=true,MemoryQoS=false".parse().unwrap();
//! assert!(gates.enabled("HPAScaleToZero") && !gates.enabled("MemoryQoS"));
//! assert_eq!("Nope=true".parse::<FeatureGates>().unwrap_err(), "unrecognized feature gate: Nope");
//! ```

use std::{collections::BTreeMap, fmt, str::FromStr, sync::LazyLock};

use crate::go::parse_bool;
use crate::metrics::{self, IntGaugeVec};

/// How far a feature is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Alpha,
    Beta,
    Ga,
    Deprecated,
}

impl Stage {
    /// As metrics name it: stable features have no stage.
    fn label(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
            Stage::Ga => "",
            Stage::Deprecated => "DEPRECATED",
        }
    }
}

/// One gate.
#[derive(Debug)]
pub struct Gate {
    pub name: &'static str,
    pub stage: Stage,
    pub default: bool,
    /// The default is the only value.
    pub locked: bool,
    /// Gates that must be on where this one is.
    pub needs: Vec<&'static str>,
}

/// Gates that stand for all gates of a stage that are not named themselves.
const ALL: [(&str, Stage); 2] = [("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)];

static GATES: LazyLock<BTreeMap<&'static str, Gate>> = LazyLock::new(|| {
    let lines = include_str!("feature_gates.txt").lines().map(str::trim);
    let gate = |line: &'static str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?;
        let stage = match words.next()? {
            "alpha" => Stage::Alpha,
            "beta" => Stage::Beta,
            "ga" => Stage::Ga,
            _ => Stage::Deprecated,
        };
        let mut gate = Gate { name, stage, default: words.next()? == "on", locked: false, needs: Vec::new() };
        for flag in words {
            match flag.strip_prefix("needs=") {
                Some(needs) => gate.needs = needs.split(',').collect(),
                None => gate.locked = flag == "locked",
            }
        }
        Some((name, gate))
    };
    let mut gates: BTreeMap<_, _> = lines.filter(|line| !line.starts_with('#')).filter_map(gate).collect();
    for (name, stage) in ALL {
        gates.insert(name, Gate { name, stage, default: false, locked: false, needs: Vec::new() });
    }
    gates
});

/// All gates, by name.
pub fn all() -> impl Iterator<Item = &'static Gate> {
    GATES.values()
}

/// `--feature-gates=A=true,B=false`, checked: gates by name, as somebody set them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates(pub BTreeMap<String, bool>);

impl FeatureGates {
    /// Gates set by name, in a flag or in a configuration file.
    ///
    /// # Errors
    /// A gate that nobody knows, that is locked to another value, or that is on while one that it needs is off.
    pub fn new(set: BTreeMap<String, bool>) -> Result<FeatureGates, String> {
        let mut gates = FeatureGates::default();
        for (name, on) in set {
            let gate = GATES.get(&*name).ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
            if gate.locked && gate.default != on {
                return Err(format!("cannot set feature gate {name} to {on}, feature is locked to {}", gate.default));
            }
            gates.0.insert(name, on);
        }
        for gate in GATES.values().filter(|gate| gates.enabled(gate.name)) {
            let off: Vec<&str> = gate.needs.iter().copied().filter(|needed| !gates.enabled(needed)).collect();
            if !off.is_empty() {
                return Err(format!(
                    "{} is enabled, but depends on features that are disabled: [{}]",
                    gate.name,
                    off.join(" ")
                ));
            }
        }
        Ok(gates)
    }

    /// Whether a gate is on: as it was set, else as all of its stage were, else by default. A gate that is not in the table is off.
    pub fn enabled(&self, name: &str) -> bool {
        let Some(gate) = GATES.get(name) else { return false };
        let of_stage = || {
            let (all, _) = ALL.iter().find(|(all, stage)| *stage == gate.stage && *all != name)?;
            self.0.get(*all).filter(|_| !gate.locked)
        };
        self.0.get(name).or_else(of_stage).copied().unwrap_or(gate.default)
    }

    /// The names of all gates that are on.
    pub fn all_enabled(&self) -> impl Iterator<Item = &'static str> {
        GATES.keys().copied().filter(|name| self.enabled(name))
    }

    /// Publishes every gate as the metric `kubernetes_feature_enabled`, and logs those that are set though they are to go.
    pub fn publish(&self) {
        for (name, on) in &self.0 {
            match GATES.get(&**name).map(|gate| gate.stage) {
                Some(Stage::Ga) => {
                    tracing::warn!("Setting GA feature gate {name}={on}. It will be removed in a future release.");
                }
                Some(Stage::Deprecated) => {
                    tracing::warn!(
                        "Setting deprecated feature gate {name}={on}. It will be removed in a future release."
                    );
                }
                _ => {}
            }
        }
        for gate in GATES.values() {
            ENABLED.with_label_values(&[gate.name, gate.stage.label()]).set(self.enabled(gate.name).into());
        }
    }
}

static ENABLED: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    metrics::int_gauge_vec(
        "kubernetes_feature_enabled",
        "[BETA] Whether a feature gate is on (1) or off (0), by its stage",
        &["name", "stage"],
    )
});

impl FromStr for FeatureGates {
    type Err = String;

    /// Reads pairs; a gate may stand behind the name of the component that it is of, which is `kube` for all here.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut set = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| format!("missing bool value for {pair}"))?;
            let (component, name) = name.trim().split_once(':').unwrap_or(("kube", name.trim()));
            if component != "kube" {
                return Err(format!("component not registered: {component}"));
            }
            let on = parse_bool(value.trim()).map_err(|_| {
                format!("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax")
            })?;
            set.insert(name.to_owned(), on);
        }
        FeatureGates::new(set)
    }
}

impl fmt::Display for FeatureGates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<_> = self.0.iter().map(|(gate, on)| format!("{gate}={on}")).collect();
        f.write_str(&pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_and_is_sound_by_default() {
        assert_eq!(FeatureGates::new(BTreeMap::new()), Ok(FeatureGates::default()));
        for gate in all() {
            assert!(gate.needs.iter().all(|needed| GATES.contains_key(needed)), "{gate:?}");
            assert!(gate.stage != Stage::Alpha || !gate.default, "{gate:?}");
        }
        let lines = include_str!("feature_gates.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#')).count();
        assert_eq!(all().count(), lines + ALL.len());
    }

    #[test]
    fn flags_are_read_as_upstream_reads_them() {
        for (text, want) in [
            ("", Ok(())),
            ("HPAScaleToZero=true", Ok(())),
            ("kube:HPAScaleToZero=1, MemoryQoS=f", Ok(())),
            ("TopologyManagerPolicyOptions=false", Ok(())),
            ("Nope=true", Err("unrecognized feature gate: Nope")),
            ("other:HPAScaleToZero=true", Err("component not registered: other")),
            ("HPAScaleToZero", Err("missing bool value for HPAScaleToZero")),
            (
                "HPAScaleToZero=maybe",
                Err("invalid value of HPAScaleToZero=maybe, err: strconv.ParseBool: parsing \"maybe\": invalid syntax"),
            ),
            (
                "SidecarContainers=false",
                Err("cannot set feature gate SidecarContainers to false, feature is locked to true"),
            ),
            (
                "GangScheduling=true",
                Err("GangScheduling is enabled, but depends on features that are disabled: [GenericWorkload]"),
            ),
            ("GangScheduling=true,GenericWorkload=true", Ok(())),
        ] {
            assert_eq!(text.parse::<FeatureGates>().map(drop).map_err(|e| e.to_string()), want.map_err(str::to_owned));
        }
    }

    #[test]
    fn all_of_a_stage_gives_way_to_those_that_are_named() {
        let gates: FeatureGates =
            "AllAlpha=true,AllBeta=false,MemoryQoS=false,ImageVolume=true,ImageVolumeWithDigest=true,\
            GracefulNodeShutdown=true,PodLevelResources=true,ContainerRestartRules=true,UserNamespacesSupport=true,\
            DRAResourceClaimDeviceStatus=true,APIServerIdentity=true"
                .parse()
                .unwrap();
        for (gate, want) in [
            ("HPAScaleToZero", true),
            ("MemoryQoS", false),
            ("ImageVolume", true),
            ("EnvFiles", false),
            ("SidecarContainers", true),
            ("DisableNodeKubeProxyVersion", true),
            ("AllAlpha", true),
            ("AllBeta", false),
            ("Nope", false),
        ] {
            assert_eq!(gates.enabled(gate), want, "{gate}");
        }
    }

    #[test]
    fn metrics_tell_what_is_on() {
        "MemoryQoS=true".parse::<FeatureGates>().unwrap().publish();
        let text = metrics::render();
        for line in [
            "kubernetes_feature_enabled{name=\"MemoryQoS\",stage=\"ALPHA\"} 1",
            "kubernetes_feature_enabled{name=\"SidecarContainers\",stage=\"\"} 1",
            "kubernetes_feature_enabled{name=\"AllBeta\",stage=\"BETA\"} 0",
        ] {
            assert!(text.contains(line), "{line}");
        }
    }
}
