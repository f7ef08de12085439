//! Errors as AWS's JSON protocols write them.

use serde_json::{Value, json};

/// One error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwsError {
    /// Name of the exception, as in `__type`.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) status: u16,
}

impl AwsError {
    /// A caller's error: HTTP 400.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            status: 400,
        }
    }

    pub(crate) fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterException", message)
    }

    pub(crate) fn client(message: impl Into<String>) -> Self {
        Self::new("ClientException", message)
    }

    pub(crate) fn cluster_not_found() -> Self {
        Self::new("ClusterNotFoundException", "Cluster not found.")
    }

    pub(crate) fn throttled() -> Self {
        Self::new("ThrottlingException", "Rate exceeded")
    }

    pub(crate) fn unknown_operation(name: &str) -> Self {
        Self::new(
            "UnknownOperationException",
            format!("The operation {name} is not known here."),
        )
    }

    /// The service's own error: HTTP 500.
    pub(crate) fn server() -> Self {
        let message = "Service Unavailable. Please try again later.".into();
        Self {
            code: "ServerException",
            message,
            status: 500,
        }
    }

    /// The body; `namespace` is the service's prefix of exception names.
    pub(crate) fn body(&self, namespace: &str) -> Value {
        let namespace = if self.code == "UnknownOperationException" {
            "com.amazon.coral.service"
        } else {
            namespace
        };
        json!({"__type": format!("{namespace}#{}", self.code), "message": self.message})
    }
}
