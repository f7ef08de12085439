//! The region of a request, from the credential scope of its AWS Signature Version 4. Signatures are not verified.

use axum::http::HeaderMap;

/// Where requests without a signature go.
const DEFAULT_REGION: &str = "us-east-1";

/// The region in `Authorization: AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, ...`.
pub(crate) fn region(headers: &HeaderMap) -> &str {
    let scope = || {
        let authorization = headers.get("authorization")?.to_str().ok()?;
        let (_, credential) = authorization.split_once("Credential=")?;
        credential
            .split(',')
            .next()?
            .split('/')
            .nth(2)
            .filter(|region| !region.is_empty())
    };
    scope().unwrap_or(DEFAULT_REGION)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scope's third part is the region; anything else falls back to the default.
    #[test]
    fn region_comes_from_the_scope() {
        let region_of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", value.parse().expect("a header value"));
            region(&headers).to_owned()
        };
        let signed =
            "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/ecs/aws4_request, SignedHeaders=host, Signature=0";
        assert_eq!(region_of(signed), "eu-west-1");
        assert_eq!(region_of("Bearer x"), DEFAULT_REGION);
        assert_eq!(region_of("Credential=AKID"), DEFAULT_REGION);
    }
}
