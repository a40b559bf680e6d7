//! Lists in chunks: all of one version while that is kept, and what comes after.

use crate::stand::Stand;
use serde_json::{Value, json};

const TEMPLATES: &str = "/api/v1/namespaces/default/podtemplates";
const TOTAL: usize = 40;

async fn fill(stand: &Stand) {
    for n in 0..TOTAL {
        let template = json!({"metadata": {"name": format!("template-{n:04}")},
            "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
        stand.create(TEMPLATES, template).await;
    }
}

fn names(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// The rest of a list in chunks of `limit`, from `token` on.
async fn walk(stand: &Stand, limit: usize, mut token: String, mut found: Vec<String>, version: &str) -> Vec<String> {
    while !token.is_empty() {
        let page = stand.get(&format!("{TEMPLATES}?limit={limit}&continue={token}")).await;
        found.extend(names(&page));
        assert!(names(&page).len() <= limit);
        assert_eq!(page["metadata"]["resourceVersion"], version);
        token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        match TOTAL - found.len() {
            0 => assert!(token.is_empty() && page["metadata"]["remainingItemCount"].is_null()),
            rest => assert_eq!(page["metadata"]["remainingItemCount"], rest),
        }
    }
    found
}

#[tokio::test]
async fn a_list_is_returned_in_chunks_of_one_version() {
    let stand = Stand::start().await;
    fill(&stand).await;
    let first = stand.get(&format!("{TEMPLATES}?limit=17")).await;
    let meta = &first["metadata"];
    assert_eq!((names(&first).len(), &meta["remainingItemCount"]), (17, &json!(TOTAL - 17)));
    let (token, version) = (meta["continue"].as_str().unwrap(), meta["resourceVersion"].as_str().unwrap());
    stand.delete(&format!("{TEMPLATES}/template-0039"), Value::Null).await;
    let found = walk(&stand, 17, token.to_owned(), names(&first), version).await;
    let want: Vec<String> = (0..TOTAL).map(|n| format!("template-{n:04}")).collect();
    assert_eq!(found, want);
    assert_eq!(names(&stand.get(TEMPLATES).await), want[..TOTAL - 1]);
}

#[tokio::test]
async fn a_list_goes_on_from_the_last_key_when_its_version_was_compacted() {
    let stand = Stand::start_with(&["--etcd-compaction-interval=1s"]).await;
    fill(&stand).await;
    let first = stand.get(&format!("{TEMPLATES}?limit=13")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = format!("{TEMPLATES}?limit=13&continue={token}");
    // Others write, or there would be nothing to compact.
    let gone = stand.until(&second, |code, _| code == 410).await;
    assert_eq!(gone["reason"], "Expired");
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = format!("{TEMPLATES}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(stand.call("GET", &exact, "", "", &Value::Null).await.0, 410);

    stand.delete(&format!("{TEMPLATES}/template-0020"), Value::Null).await;
    stand
        .create(
            TEMPLATES,
            json!({"metadata": {"name": "template-0020x"},
        "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}),
        )
        .await;
    let token = gone["metadata"]["continue"].as_str().unwrap();
    let next = stand.get(&format!("{TEMPLATES}?limit=13&continue={token}")).await;
    assert_eq!((names(&next).len(), &next["metadata"]["remainingItemCount"]), (13, &json!(TOTAL - 26)));
    assert_eq!(names(&next)[7], "template-0020x");
    let version = next["metadata"]["resourceVersion"].as_str().unwrap();
    let token = next["metadata"]["continue"].as_str().unwrap();
    let mut found = names(&first);
    found.extend(names(&next));
    let found = walk(&stand, 13, token.to_owned(), found, version).await;
    assert_eq!(found.len(), TOTAL);
}
