//! CronJobs that cannot run are told why.

use crate::{cluster, namespace};
use serde_json::{Value, json};

#[tokio::test]
async fn a_schedule_that_never_comes_is_told_and_own_jobs_are_expected() {
    let stand = cluster().await;
    let core = namespace(&stand, "cron").await;
    let batch = core.replace("/api/v1", "/apis/batch/v1");
    let cron_job = |name: &str, schedule: &str| {
        let template = json!({"spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i"}]}}}});
        json!({"metadata": {"name": name}, "spec": {"schedule": schedule, "jobTemplate": template}})
    };
    stand.create(&format!("{batch}/cronjobs"), cron_job("never", "59 23 31 2 *")).await;
    stand.create(&format!("{batch}/cronjobs"), cron_job("often", "@every 1s")).await;

    let running = |cron_job: &Value| cron_job["status"]["active"].as_array().is_some_and(|active| !active.is_empty());
    stand.until(&format!("{batch}/cronjobs/often"), |_, often| running(often)).await;
    let reasons = |list: &Value| {
        let events = list["items"].as_array().into_iter().flatten();
        let of = events.map(|event| {
            let about = event["involvedObject"]["name"].as_str().unwrap();
            format!("{about}: {}", event["reason"].as_str().unwrap())
        });
        of.collect::<Vec<_>>()
    };
    let path = format!("{core}/events");
    let list = stand
        .until(&path, |_, list| {
            let reasons = reasons(list);
            ["never: InvalidSchedule", "often: SuccessfulCreate"].iter().all(|told| reasons.iter().any(|r| r == told))
        })
        .await;
    assert!(!reasons(&list).contains(&"often: UnexpectedJob".to_owned()), "{list}");

    // One that somebody else made is none of ours.
    let owner = stand.get(&format!("{batch}/cronjobs/often")).await;
    let mut job = json!({"metadata": {"name": "by-hand", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob",
        "name": "often", "uid": owner["metadata"]["uid"], "controller": true}]}});
    job["spec"] = owner["spec"]["jobTemplate"]["spec"].clone();
    stand.create(&format!("{batch}/jobs"), job).await;
    stand.until(&path, |_, list| reasons(list).contains(&"often: UnexpectedJob".to_owned())).await;
}
