//! `GET /v2/kv?prefix=`: users' keys in order, pages as one consistent cut.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use blox_store::View;
use serde::Serialize;

use super::models::KeyModel;
use super::request::json;
use crate::PAGE_BYTES_MAX;
use crate::paging::{PAGING_KEYS, PageToken, page_limit, query_hash};
use crate::problem::Problem;
use crate::query::Query;
use crate::reading::{READING_KEYS, ReadFailure, Reading};
use crate::state::ApiState;

/// Keys read from the state at a time: values may be large, and a page is bounded in bytes.
const KEYS_READ_AT_ONCE: usize = 4;

#[derive(Serialize)]
struct PageModel {
    items: Vec<KeyModel>,
    revision: u64,
    next_token: Option<String>,
}

struct Page {
    items: Vec<KeyModel>,
    /// Where the next page begins; `None`: this is the last.
    last: Option<Vec<u8>>,
}

/// The handler.
pub(super) async fn list(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(uri.query());
    let known: Vec<&str> = ["prefix"]
        .iter()
        .chain(&PAGING_KEYS)
        .chain(&READING_KEYS)
        .copied()
        .collect();
    query.only(&known)?;
    let limit = page_limit(&query)?;
    let hash = query_hash("kv", &query, &["prefix"]);
    let token = PageToken::from_query(&query, hash, 1)?;
    let reading = Reading::from_query(&query)?;
    let view = match &token {
        None => state.view(reading).await?,
        Some(token) => {
            state.barrier(Reading::at_least(token.revision)).await?;
            state.store().view_at(token.revision)?
        }
    };
    let revision = view.revision();
    let prefix = query.bytes("prefix").unwrap_or_default().to_vec();
    let after = token.and_then(|token| token.last.into_iter().next());
    let page = state.read_much(move || read_page(&view, &prefix, after, limit)).await?;
    let next_token = page.last.map(|last| {
        PageToken {
            revision,
            last: vec![last],
        }
        .encode(hash)
    });
    Ok(json(
        StatusCode::OK,
        revision,
        &PageModel {
            items: page.items,
            revision,
            next_token,
        },
    ))
}

fn read_page(view: &View, prefix: &[u8], mut after: Option<Vec<u8>>, limit: usize) -> Result<Page, ReadFailure> {
    let mut items = Vec::new();
    let mut bytes = 0;
    while items.len() < limit && bytes < PAGE_BYTES_MAX {
        let count = KEYS_READ_AT_ONCE.min(limit - items.len());
        let pairs = view.user_keys(prefix, after.as_deref(), count)?;
        for pair in &pairs {
            bytes += pair.key.len() + pair.value.len();
            items.push(KeyModel::of(pair));
        }
        match pairs.last() {
            Some(last) if pairs.len() == count => after = Some(last.key.to_vec()),
            _ => return Ok(Page { items, last: None }),
        }
    }
    let more = !view.user_keys(prefix, after.as_deref(), 1)?.is_empty();
    Ok(Page {
        items,
        last: after.filter(|_| more),
    })
}
