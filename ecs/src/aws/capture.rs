//! Keeps the body of an answer as it came: the SDK's typed structs drop every field they do not know. Keeps a call from leaving too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use blox_runtime::time::Instant;
use bytes::Bytes;
use parking_lot::Mutex;

/// An interceptor for one call: notes whether the call began to leave, and the body that came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capture {
    send_by: Option<Instant>,
    seen: Arc<Seen>,
}

/// The call was ready after its time: waiting for credentials, mostly.
#[derive(Debug, thiserror::Error)]
#[error("ready to leave {} ms after the time by which it had to leave", .late_ms)]
struct TooLate {
    late_ms: u128,
}

#[derive(Debug, Default)]
struct Seen {
    transmitted: AtomicBool,
    body: Mutex<Option<Bytes>>,
}

impl Capture {
    /// For a call that must not leave after `send_by`, however long its credentials take.
    pub(crate) fn until(send_by: Option<Instant>) -> Capture {
        Capture {
            send_by,
            ..Capture::default()
        }
    }

    /// Whether the SDK came as far as sending; where it did not (no credentials, a bad request), nothing left.
    pub(crate) fn transmitted(&self) -> bool {
        self.seen.transmitted.load(Ordering::Acquire)
    }

    /// The body of the answer, if one came whole.
    pub(crate) fn body(&self) -> Option<Bytes> {
        self.seen.body.lock().clone()
    }
}

impl Intercept for Capture {
    fn name(&self) -> &'static str {
        "blox-capture"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // The last hook before the call goes to its connection: it is signed already.
        let late = self
            .send_by
            .map(|send_by| Instant::now().saturating_duration_since(send_by));
        if let Some(late) = late.filter(|late| !late.is_zero()) {
            let late_ms = late.as_millis();
            return Err(TooLate { late_ms }.into());
        }
        self.seen.transmitted.store(true, Ordering::Release);
        Ok(())
    }

    // The hook before deserialization comes too early: the body is read from the wire after it.
    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *self.seen.body.lock() = context.response().body().bytes().map(Bytes::copy_from_slice);
        Ok(())
    }
}
