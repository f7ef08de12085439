//! `/v2/kv/{key}`: users' own keys, any bytes, with revisions as etcd's.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use blox_store::proto::command::Operation;
use blox_store::proto::{DeleteKey, KeyValue, PutKey, outcome};
use serde::Serialize;

use super::preconditions::Expected;
use super::request::{entity_tag, json, path_tail};
use crate::answer::AnswerRevision;
use crate::problem::{Problem, ProblemKind};
use crate::query::Query;
use crate::reading::{READING_KEYS, Reading};
use crate::request_id::RequestId;
use crate::state::ApiState;
use crate::writing::idempotency;
use crate::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

const PREFIX: &str = "/v2/kv/";
const CREATE_REVISION_HEADER: HeaderName = HeaderName::from_static("x-blox-create-revision");
const MOD_REVISION_HEADER: HeaderName = HeaderName::from_static("x-blox-mod-revision");
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-blox-version");

/// What a write answers.
#[derive(Serialize)]
struct WrittenModel {
    revision: u64,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
}

#[derive(Serialize)]
struct DeletedModel {
    revision: u64,
    deleted_mod_revision: Option<u64>,
}

/// The value as it was put, its revisions in headers.
pub(super) async fn get(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    let key = key_of(&uri)?;
    let query = Query::parse(uri.query());
    query.only(&READING_KEYS)?;
    let view = state.view(Reading::from_query(&query)?).await?;
    let Some(pair) = view.user_key(&key)? else {
        let detail = format!("There is no such key at revision {}.", view.revision());
        return Err(Problem::new(ProblemKind::KeyMissing, detail).with("revision", view.revision()));
    };
    let headers = revisions(&pair);
    let mut response = (headers, Body::from(pair.value)).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    response.extensions_mut().insert(AnswerRevision(view.revision()));
    Ok(response)
}

/// Writes the body as the key's value, if the preconditions hold.
pub(super) async fn put(
    State(state): State<ApiState>,
    Extension(request_id): Extension<RequestId>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let key = key_of(&uri)?;
    Query::parse(uri.query()).only(&[])?;
    let precondition = Expected::from_headers(&headers)?.precondition();
    let body = state.read_body(body, VALUE_BYTES_MAX).await?;
    let idempotency = idempotency(&method, &uri, &headers, &body.bytes)?;
    let operation = Operation::PutKey(PutKey {
        key: key.into(),
        value: body.bytes.clone(),
        precondition,
    });
    let written = state
        .write(operation, "PUT /v2/kv".to_owned(), &request_id, idempotency)
        .await?;
    let outcome::Result::KeyWritten(key_written) = &written.result else {
        return Err(written.unexpected().into());
    };
    let Some(current) = &key_written.current else {
        return Err(written.unexpected().into());
    };
    let model = WrittenModel {
        revision: written.revision,
        create_revision: current.create_revision,
        mod_revision: current.mod_revision,
        version: current.version,
    };
    let mut response = json(StatusCode::OK, written.revision, &model);
    response.headers_mut().extend(revisions(current));
    written.mark(response.headers_mut());
    Ok(response)
}

/// Deletes the key, if the preconditions hold; 404 where there is none.
pub(super) async fn delete(
    State(state): State<ApiState>,
    Extension(request_id): Extension<RequestId>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = key_of(&uri)?;
    Query::parse(uri.query()).only(&[])?;
    let precondition = Expected::from_headers(&headers)?.precondition();
    let idempotency = idempotency(&method, &uri, &headers, &[])?;
    let operation = Operation::DeleteKey(DeleteKey {
        key: key.into(),
        precondition,
    });
    let written = state
        .write(operation, "DELETE /v2/kv".to_owned(), &request_id, idempotency)
        .await?;
    let outcome::Result::KeyWritten(key_written) = &written.result else {
        return Err(written.unexpected().into());
    };
    let deleted_mod_revision = key_written.previous.as_ref().map(|previous| previous.mod_revision);
    let model = DeletedModel {
        revision: written.revision,
        deleted_mod_revision,
    };
    let mut response = json(StatusCode::OK, written.revision, &model);
    written.mark(response.headers_mut());
    Ok(response)
}

fn key_of(uri: &Uri) -> Result<Vec<u8>, Problem> {
    let key = path_tail(uri, PREFIX);
    if key.is_empty() {
        return Err(Problem::new(ProblemKind::InvalidPath, "The key is empty."));
    }
    if key.len() > KEY_BYTES_MAX {
        let detail = format!("The key has {} bytes, more than {KEY_BYTES_MAX}.", key.len());
        return Err(Problem::new(ProblemKind::InvalidPath, detail));
    }
    Ok(key)
}

fn revisions(pair: &KeyValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, entity_tag(pair.mod_revision));
    headers.insert(CREATE_REVISION_HEADER, HeaderValue::from(pair.create_revision));
    headers.insert(MOD_REVISION_HEADER, HeaderValue::from(pair.mod_revision));
    headers.insert(VERSION_HEADER, HeaderValue::from(pair.version));
    headers
}
