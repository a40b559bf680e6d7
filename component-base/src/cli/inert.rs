//! Flags that all of upstream's control plane has and that change nothing here.

/// Accepted, so that a command line made for upstream starts the same component here.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InertFlags {
    /// Accepted: no metric is hidden.
    #[arg(long, default_value = "")]
    pub show_hidden_metrics_for_version: String,
    /// Accepted: every metric is served.
    #[arg(long, value_delimiter = ',')]
    pub disabled_metrics: Vec<String>,
    /// Accepted: labels are bounded as they are.
    #[arg(long)]
    pub allow_metric_labels: Vec<String>,
    /// Accepted, see --allow-metric-labels.
    #[arg(long, default_value = "")]
    pub allow_metric_labels_manifest: String,
    /// Accepted: there is one version.
    #[arg(long, value_delimiter = ',')]
    pub emulated_version: Vec<String>,
    /// Accepted, see --emulated-version.
    #[arg(long, value_delimiter = ',')]
    pub min_compatibility_version: Vec<String>,
}
