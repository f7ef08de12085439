//! The AWS wire: which service, operation and region a request names, and how answers and errors are written.

mod dispatch;
mod error;
mod signature;
mod sts;

use axum::http::HeaderMap;
use serde::de::DeserializeOwned;

pub(crate) use dispatch::{Caller, CloseWithoutAnswer, serve_aws};
pub(crate) use error::AwsError;

use crate::world::Name;

/// One request for one operation.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) region: Name,
    pub(crate) operation: &'a str,
    /// `http://host:port` as the caller addressed us, for queue URLs.
    pub(crate) endpoint: String,
    pub(crate) body: &'a [u8],
}

impl Call<'_> {
    /// The request's fields; unknown ones are ignored, as AWS does.
    pub(crate) fn input<T: DeserializeOwned>(&self) -> Result<T, AwsError> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { self.body };
        serde_json::from_slice(body).map_err(|error| AwsError::new("SerializationException", error.to_string()))
    }
}

/// `http://host:port` as the caller addressed us.
fn endpoint(headers: &HeaderMap) -> String {
    let host = headers
        .get("host")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("localhost");
    format!("http://{host}")
}
