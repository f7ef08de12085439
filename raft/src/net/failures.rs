//! What a failed call means.

use std::error::Error;

use openraft::errors::{NetworkError, RPCError, Unreachable};
use tonic::{Code, Status};

use crate::types::TypeConfig;

/// A failed call in openraft's words: unreachable is tried again after a pause, anything else at once.
pub(super) fn rpc_error(doing: &str, status: &Status) -> RPCError<TypeConfig> {
    let message = format!("{doing}: {}: {}", status.code(), status.message());
    match status.code() {
        Code::Unavailable | Code::PermissionDenied | Code::FailedPrecondition | Code::Unimplemented => {
            RPCError::Unreachable(Unreachable::from_string(message))
        }
        _ => RPCError::Network(NetworkError::from_string(message)),
    }
}

/// No answer came in time.
pub(super) fn timed_out(doing: &str) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(format!("{doing}: no answer in time")))
}

/// Whether the call certainly never reached its handler: the connection could not be made, or the call was refused at the door.
pub(super) fn never_handled(status: &Status) -> bool {
    if matches!(status.code(), Code::PermissionDenied | Code::FailedPrecondition) {
        return true;
    }
    let mut source: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
