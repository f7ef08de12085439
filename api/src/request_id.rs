//! The request id: taken from the request where it is usable, else made; in every answer, every log line and every command.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::REQUEST_ID_BYTES_MAX;

/// The header, of requests and answers.
pub(crate) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Visible ASCII, at most [`REQUEST_ID_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// The request's own id, or a new one.
    pub(crate) fn of(headers: &HeaderMap, make: impl FnOnce() -> String) -> RequestId {
        let usable = |text: &&str| {
            !text.is_empty() && text.len() <= REQUEST_ID_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let given = headers
            .get(REQUEST_ID_HEADER)
            .and_then(|value| value.to_str().ok())
            .filter(usable);
        RequestId(given.map_or_else(make, str::to_owned))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_usable_ids_are_taken_over() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(
                REQUEST_ID_HEADER,
                HeaderValue::from_bytes(text.as_bytes()).expect("a header value"),
            );
            RequestId::of(&headers, || "made".into())
        };
        assert_eq!(id("abc-1").as_str(), "abc-1");
        assert_eq!(id("").as_str(), "made");
        assert_eq!(id("a b").as_str(), "made");
        assert_eq!(id(&"x".repeat(129)).as_str(), "made");
    }
}
