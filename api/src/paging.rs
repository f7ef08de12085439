//! Pages: `limit` and an opaque `next_token` that holds the revision of the first page, so that all pages are one consistent cut.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blox_store::Revision;
use xxhash_rust::xxh3::xxh3_64;

use crate::problem::Problem;
use crate::query::{Query, invalid};
use crate::{PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX};

/// The query keys of paging.
pub(crate) const PAGING_KEYS: [&str; 2] = ["limit", "next_token"];

/// The first byte of a token: its format.
const TOKEN_FORMAT: u8 = 1;

/// Where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageToken {
    /// Revision that all pages show.
    pub(crate) revision: Revision,
    /// What the last item of the previous page was, in its parts.
    pub(crate) last: Vec<Vec<u8>>,
}

/// `limit`, 1 to [`PAGE_ITEMS_MAX`].
pub(crate) fn page_limit(query: &Query) -> Result<usize, Problem> {
    let Some(limit) = query.number("limit")? else {
        return Ok(PAGE_ITEMS_DEFAULT);
    };
    match usize::try_from(limit) {
        Ok(limit) if (1..=PAGE_ITEMS_MAX).contains(&limit) => Ok(limit),
        _ => Err(invalid("limit", &format!("is not between 1 and {PAGE_ITEMS_MAX}"))),
    }
}

/// What a token is bound to: the route and every filter, so that a token of another query is refused.
pub(crate) fn query_hash(route: &str, query: &Query, filters: &[&str]) -> u64 {
    let mut text = route.as_bytes().to_vec();
    for filter in filters {
        if let Some(value) = query.bytes(filter) {
            text.push(0);
            text.extend_from_slice(filter.as_bytes());
            text.push(b'=');
            text.extend_from_slice(value);
        }
    }
    xxh3_64(&text)
}

impl PageToken {
    /// The opaque text. Shape: format byte, query hash, revision, then each part with its length (all numbers big-endian), in base64.
    pub(crate) fn encode(&self, query_hash: u64) -> String {
        let mut bytes = vec![TOKEN_FORMAT];
        bytes.extend_from_slice(&query_hash.to_be_bytes());
        bytes.extend_from_slice(&self.revision.to_be_bytes());
        for part in &self.last {
            let length = u32::try_from(part.len()).expect("parts are keys and ARNs, far below 4 GiB");
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The token of a query, if it carries one; `parts` is how many parts it must have.
    pub(crate) fn from_query(query: &Query, query_hash: u64, parts: usize) -> Result<Option<PageToken>, Problem> {
        let Some(text) = query.bytes("next_token") else {
            return Ok(None);
        };
        let wrong = || {
            invalid(
                "next_token",
                "is not a token of this query; leave it out to begin again",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let token = PageToken::decode(&bytes, query_hash).ok_or_else(wrong)?;
        if token.last.len() == parts {
            Ok(Some(token))
        } else {
            Err(wrong())
        }
    }

    fn decode(bytes: &[u8], query_hash: u64) -> Option<PageToken> {
        let (format, rest) = bytes.split_first()?;
        let (hash, rest) = rest.split_first_chunk::<8>()?;
        let (revision, mut rest) = rest.split_first_chunk::<8>()?;
        if *format != TOKEN_FORMAT || u64::from_be_bytes(*hash) != query_hash {
            return None;
        }
        let mut last = Vec::new();
        while !rest.is_empty() {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let (part, tail) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            last.push(part.to_vec());
            rest = tail;
        }
        Some(PageToken {
            revision: u64::from_be_bytes(*revision),
            last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(token: &str) -> Query {
        Query::parse(Some(&format!("next_token={token}")))
    }

    #[test]
    fn a_token_comes_back_as_it_was() {
        let token = PageToken {
            revision: 17,
            last: vec![b"arn".to_vec(), b"".to_vec()],
        };
        let text = token.encode(5);
        assert_eq!(
            PageToken::from_query(&given(&text), 5, 2).expect("it is valid"),
            Some(token)
        );
    }

    #[test]
    fn tokens_of_other_queries_and_broken_ones_are_refused() {
        let text = PageToken {
            revision: 17,
            last: vec![b"arn".to_vec()],
        }
        .encode(5);
        assert!(PageToken::from_query(&given(&text), 6, 1).is_err());
        assert!(PageToken::from_query(&given(&text), 5, 2).is_err());
        for wrong in [
            "x",
            "!!!!",
            "AQ",
            &text[..text.len() - 2],
            "AQAAAAAAAAAFAAAAAAAAABH_____",
        ] {
            assert!(PageToken::from_query(&given(wrong), 5, 1).is_err(), "{wrong}");
        }
    }

    #[test]
    fn filters_are_part_of_the_hash() {
        let hash = |text| query_hash("/v2/tasks", &Query::parse(Some(text)), &["status", "q"]);
        assert_eq!(hash("status=a&limit=3"), hash("limit=4&status=a"));
        assert_ne!(hash("status=a"), hash("q=a"));
    }
}
