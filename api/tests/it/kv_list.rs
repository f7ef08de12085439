//! Lists of users' keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::node::Node;

fn keys(page: &Value) -> Vec<&str> {
    page["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|item| item["key"].as_str())
        .collect()
}

/// By prefix, in order, values in base64; keys that are no text too.
#[tokio::test]
async fn keys_are_listed_by_prefix() {
    let node = Node::start().await;
    for key in ["b/2", "a/1", "b/1", "b/%FF", "c"] {
        node.request("PUT", &format!("/v2/kv/{key}"), &[], key.as_bytes()).await;
    }
    let all = node.get("/v2/kv").await.json();
    assert_eq!(keys(&all), ["a/1", "b/1", "b/2", "c"]);
    assert_eq!(all["next_token"], Value::Null);
    let page = node.get("/v2/kv?prefix=b%2F").await.json();
    assert_eq!(keys(&page), ["b/1", "b/2"]);
    assert_eq!(page["items"][0]["value_base64"], STANDARD.encode("b/1"));
    assert_eq!(page["items"][0]["create_revision"], 3);
    assert_eq!(page["items"][2]["key"], Value::Null);
    assert_eq!(page["items"][2]["key_base64"], STANDARD.encode(b"b/\xff"));
    assert_eq!(keys(&node.get("/v2/kv?prefix=x").await.json()), [""; 0]);
}

/// Pages are one consistent cut while writes go on, and a cut that is no longer kept is a 410.
#[tokio::test]
async fn pages_are_one_cut() {
    let node = Node::start().await;
    for number in 0..7 {
        node.request("PUT", &format!("/v2/kv/k{number}"), &[], b"1").await;
    }
    let mut seen = Vec::new();
    let mut path = "/v2/kv?limit=3".to_owned();
    let mut token = Value::Null;
    loop {
        let page = node.get(&path).await.json();
        assert_eq!(page["revision"], 7);
        seen.extend(keys(&page).iter().map(|key| (*key).to_owned()));
        node.request("DELETE", "/v2/kv/k6", &[], b"").await;
        node.request("PUT", "/v2/kv/k65", &[], b"later").await;
        match page["next_token"].as_str() {
            Some(next) => path = format!("/v2/kv?limit=3&next_token={next}"),
            None => break,
        }
        token = page["next_token"].clone();
    }
    assert_eq!(seen, ["k0", "k1", "k2", "k3", "k4", "k5", "k6"]);

    node.compact(node.revision());
    let token = token.as_str().expect("there was a second page");
    let gone = node.get(&format!("/v2/kv?limit=3&next_token={token}")).await;
    assert_eq!(
        (gone.status(), gone.json()["oldest_revision"].as_u64()),
        (410, Some(node.revision()))
    );
    let other = node.get(&format!("/v2/kv?prefix=k&next_token={token}")).await;
    assert_eq!(
        (other.status(), other.json()["parameter"].as_str()),
        (400, Some("next_token"))
    );
}

/// A page ends early rather than hold much, and the next one goes on.
#[tokio::test]
async fn pages_are_bounded_in_bytes() {
    let node = Node::start().await;
    for number in 0..9 {
        node.request("PUT", &format!("/v2/kv/k{number}"), &[], &vec![0; 1024 * 1024])
            .await;
    }
    let first = node.get("/v2/kv").await.json();
    assert_eq!(keys(&first), ["k0", "k1", "k2", "k3"]);
    let token = first["next_token"].as_str().expect("there is more");
    let second = node.get(&format!("/v2/kv?limit=2&next_token={token}")).await.json();
    assert_eq!(keys(&second), ["k4", "k5"]);
}
