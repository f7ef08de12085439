//! From the SDK's errors to ours: refused, not sent, or unknown.

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use bytes::Bytes;

use crate::aws::capture::Capture;
use crate::error::CallError;

/// The longest cause kept from the SDK, characters: its error chains repeat themselves.
const CAUSE_CHARACTERS_MAX: usize = 500;
/// Statuses from here on say nothing about what the call did.
const STATUS_SERVER_ERROR: u16 = 500;
/// A request that timed out on their side: it may have been read.
const STATUS_REQUEST_TIMEOUT: u16 = 408;

/// The captured body, or the sorted error. An answer that came whole with a good status counts even where the SDK's typed structs cannot
/// take it (a stand-in's number for a string): reading it is the business of [`crate::answer`], which needs less of it.
pub(crate) fn body_or_error<O, E>(
    operation: &'static str,
    result: Result<O, SdkError<E, HttpResponse>>,
    capture: &Capture,
) -> Result<Bytes, CallError>
where
    E: Error + ProvideErrorMetadata + 'static,
{
    match (result, capture.body()) {
        (Ok(_), body) => Ok(body.unwrap_or_default()),
        (Err(SdkError::ResponseError(response)), Some(body)) if response.raw().status().is_success() => Ok(body),
        (Err(error), _) => Err(call_error(operation, error, capture.transmitted())),
    }
}

/// Sorts an SDK error. `transmitted`: the SDK came as far as sending.
pub(crate) fn call_error<E>(operation: &'static str, error: SdkError<E, HttpResponse>, transmitted: bool) -> CallError
where
    E: Error + ProvideErrorMetadata + 'static,
{
    match &error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service
                .err()
                .code()
                .map_or_else(|| format!("HTTP {status}"), str::to_string);
            let message = service.err().message().unwrap_or("no message").to_string();
            answered(operation, status, code, message)
        }
        SdkError::ResponseError(response) => {
            let status = response.raw().status().as_u16();
            answered(operation, status, format!("HTTP {status}"), cause(&error))
        }
        _ if !transmitted || is_connect_failure(&error) => CallError::NotSent {
            operation,
            cause: cause(&error),
        },
        _ => CallError::Unknown {
            operation,
            code: None,
            cause: cause(&error),
        },
    }
}

/// An answer with a status: a 4xx is a refusal; a 5xx, or a 2xx that could not be read, may hide an effect.
fn answered(operation: &'static str, status: u16, code: String, message: String) -> CallError {
    let refused = (400..STATUS_SERVER_ERROR).contains(&status) && status != STATUS_REQUEST_TIMEOUT;
    match refused {
        true => CallError::Refused {
            operation,
            code,
            message,
        },
        false => CallError::Unknown {
            operation,
            code: Some(code),
            cause: format!("HTTP status {status}: {message}"),
        },
    }
}

/// Whether no connection was ever made: then nothing was sent.
fn is_connect_failure(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(|error| error.is_connect())
        {
            return true;
        }
        next = error.source();
    }
    false
}

fn cause(error: &(dyn Error + 'static)) -> String {
    DisplayErrorContext(error)
        .to_string()
        .chars()
        .take(CAUSE_CHARACTERS_MAX)
        .collect()
}
