//! Lists of keys, page by page, as one consistent cut.

use std::time::Duration;

use serde_json::Value;

use super::http::{Ask, Http, why};
use crate::client::Node;

/// Keys of a page.
const PAGE: usize = 1_000;
/// Pages of a list at most.
const PAGES_MAX: usize = 1_000;

/// A whole list.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// In order.
    pub keys: Vec<String>,
    /// The state's revision of which it speaks.
    pub revision: u64,
}

/// All keys below a prefix, linearizably; an error says what was answered instead.
pub async fn list(http: &Http, node: &Node, prefix: &str, patience: Duration) -> Result<Listed, String> {
    let mut listed = Listed::default();
    let mut next = String::new();
    for _ in 0..PAGES_MAX {
        let ask = Ask::get(format!("/v2/kv?prefix={prefix}&limit={PAGE}{next}"), patience);
        let answer = http.ask(node, &ask).await;
        let page = match &answer {
            Ok(reply) if reply.is_success() => reply.json(),
            _ => return Err(why(&answer)),
        };
        let items = page["items"].as_array().ok_or_else(|| format!("no items: {page}"))?;
        listed
            .keys
            .extend(items.iter().filter_map(|item| item["key"].as_str()).map(str::to_owned));
        listed.revision = page["revision"].as_u64().unwrap_or(0);
        match &page["next_token"] {
            Value::String(token) => next = format!("&next_token={token}"),
            _ => return Ok(listed),
        }
    }
    Err(format!("{prefix} has more than {PAGES_MAX} pages"))
}
