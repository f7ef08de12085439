//! What may come of a call to AWS: a definite refusal, a call that never left, or an unknown outcome.

/// Why a call has no answer. Whether it may have had an effect is what callers must know first, so that is the variant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// AWS answered and refused: the call had no effect.
    #[error("{operation}: refused by AWS with {code}: {message}")]
    Refused {
        /// The operation, such as `StartTask`.
        operation: &'static str,
        /// AWS' code, such as `ClientException`; `HTTP 403` where the answer had none.
        code: String,
        /// AWS' own words.
        message: String,
    },
    /// It never left this process, or no connection was made: it had no effect.
    #[error("{operation}: not sent: {cause}")]
    NotSent {
        /// The operation.
        operation: &'static str,
        /// What was in the way, and what to look at.
        cause: String,
    },
    /// It was sent and no answer, or no clear one, came: it may have had its effect.
    #[error("{operation}: outcome unknown: {cause}")]
    Unknown {
        /// The operation.
        operation: &'static str,
        /// AWS' code where an answer carried one.
        code: Option<String>,
        /// What happened: a timeout, a reset, a 5xx.
        cause: String,
    },
}

/// Codes by which AWS says "too fast"; the call had no effect.
const THROTTLING_CODES: [&str; 8] = [
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "HTTP 429",
];

impl CallError {
    /// Whether the call certainly had no effect.
    pub fn is_definite(&self) -> bool {
        !matches!(self, CallError::Unknown { .. })
    }

    /// Whether AWS asked to slow down.
    pub fn is_throttled(&self) -> bool {
        self.code().is_some_and(|code| THROTTLING_CODES.contains(&code))
    }

    /// Whether the caller may not do this: asking again does not help until somebody changes its policy.
    pub fn is_access_denied(&self) -> bool {
        const DENIED_CODES: [&str; 3] = ["AccessDeniedException", "AccessDenied", "UnauthorizedOperation"];
        matches!(self, CallError::Refused { code, .. } if DENIED_CODES.contains(&code.as_str()))
    }

    /// Whether the cluster does not exist.
    pub fn is_cluster_not_found(&self) -> bool {
        matches!(self, CallError::Refused { code, .. } if code == "ClusterNotFoundException")
    }

    /// Whether the queue does not exist.
    pub fn is_queue_missing(&self) -> bool {
        matches!(self, CallError::Refused { code, .. }
            if code.ends_with("QueueDoesNotExist") || code.ends_with("NonExistentQueue"))
    }

    /// AWS' code, where there was an answer with one.
    pub fn code(&self) -> Option<&str> {
        match self {
            CallError::Refused { code, .. } => Some(code),
            CallError::NotSent { .. } => None,
            CallError::Unknown { code, .. } => code.as_deref(),
        }
    }

    /// The `code` label of `blox_ecs_api_requests_total`: bounded, as AWS' codes are.
    pub(crate) fn label(&self) -> String {
        match self {
            CallError::NotSent { .. } => "not_sent".into(),
            CallError::Refused { code, .. } => code.clone(),
            CallError::Unknown { code, .. } => code.clone().unwrap_or_else(|| "unknown".into()),
        }
    }

    /// Whether asking again may help a read: everything but a refusal that is no throttling.
    pub(crate) fn is_worth_retrying(&self) -> bool {
        !matches!(self, CallError::Refused { .. }) || self.is_throttled()
    }
}
