//! The pods of a Job.

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
};
use kube::ResourceExt;

use super::{
    policy::{self, Verdict},
    tally::{self, FINALIZER, INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES},
};
use crate::common::{meta, pod_control};

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Letters of a host name (RFC 1123), less the index.
const HOSTNAME_MAX: usize = 63;

pub(super) fn plain(job: &Job, spec: &JobSpec) -> Pod {
    let mut pod = pod_control::from_template(job, &spec.template);
    pod.finalizers_mut().push(FINALIZER.into());
    pod
}

/// The pod of an index: it finds the index in its name, host name, label, annotation and environment. With a backoff limit
/// per index it carries on the failures of the pod that it replaces.
pub(super) fn indexed(job: &Job, spec: &JobSpec, index: i32, replaced: Option<&Pod>) -> Pod {
    let mut pod = plain(job, spec);
    let text = index.to_string();
    pod.metadata.generate_name = Some(format!("{}-{index}-", meta::name(job)));
    pod.annotations_mut().insert(INDEX.into(), text.clone());
    pod.labels_mut().insert(INDEX.into(), text);
    if spec.backoff_limit_per_index.is_some() {
        let (counted, ignored) = replaced.map_or((0, 0), |last| {
            let (counted, ignored) = tally::earlier_failures(last);
            let is_ignored = policy::match_pod_failure_policy(spec, last) == Verdict::Ignore;
            (counted + i32::from(!is_ignored), ignored + i32::from(is_ignored))
        });
        pod.annotations_mut().insert(INDEX_FAILURES.into(), counted.to_string());
        if ignored > 0 {
            pod.annotations_mut().insert(INDEX_IGNORED_FAILURES.into(), ignored.to_string());
        }
    }
    let pod_spec = pod.spec.get_or_insert_default();
    if pod_spec.hostname.as_ref().is_none_or(String::is_empty) {
        let suffix = format!("-{index}");
        let name = meta::name(job);
        let name = &name[..name.len().min(HOSTNAME_MAX.saturating_sub(suffix.len()))];
        pod_spec.hostname = Some(format!("{}{suffix}", name.trim_end_matches(['-', '.'])));
    }
    let init = pod_spec.init_containers.iter_mut().flatten();
    pod_spec.containers.iter_mut().chain(init).for_each(add_variable);
    pod
}

fn add_variable(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..Default::default() };
    variables.push(EnvVar {
        name: INDEX_VARIABLE.into(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        ..EnvVar::default()
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let job: Job = serde_json::from_value(json!({
            "metadata": {"name": "sum", "namespace": "default"},
            "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}, "backoffLimitPerIndex": 1},
        }))
        .unwrap();
        let last: Pod = serde_json::from_value(json!({"metadata": {"annotations": {INDEX_FAILURES: "1"}}})).unwrap();
        let pod = indexed(&job, job.spec.as_ref().unwrap(), 3, Some(&last));
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("sum-3-"));
        assert_eq!(pod.annotations()[INDEX_FAILURES], "2");
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.hostname.as_deref(), Some("sum-3"));
        assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, INDEX_VARIABLE);
        assert!(pod.finalizers().contains(&FINALIZER.to_owned()));
    }
}
