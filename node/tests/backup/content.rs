//! What must be the same before and after.

use serde_json::Value;

use crate::harness::{Client, DEADLINE, eventually};

const LISTS: [&str; 6] = [
    "/v2/kv?limit=1000",
    "/v2/tasks?limit=1000",
    "/v2/instances?limit=1000",
    "/v2/environments",
    "/v1/tasks",
    "/v1/instances",
];

/// Everything a node shows, mod revisions and all: users' keys, what is known of ECS in both contracts, environments.
pub async fn content(client: &Client, url: &str) -> Vec<Value> {
    let mut content = Vec::new();
    for path in LISTS {
        let url = format!("{url}{path}");
        let list = eventually(path, DEADLINE, || async { client.get_json(&url).await }).await;
        for item in list["items"].as_array().expect("a list") {
            let mut item = item.clone();
            // Summaries are of the moment.
            item.as_object_mut().expect("an object").remove("summary");
            content.push(item);
        }
    }
    content
}
