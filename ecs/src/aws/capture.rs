//! Keeps the body of an answer as it came: the SDK's typed structs drop every field they do not know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use parking_lot::Mutex;

/// An interceptor for one call: notes whether the call began to leave, and the body that came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capture {
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    transmitted: AtomicBool,
    body: Mutex<Option<Bytes>>,
}

impl Capture {
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
