//! The AWS SDK, and nothing but it: the only module that names `aws_*`.
//!
//! Endpoints, profiles, credentials and proxies are the SDK's own chain, untouched. The SDK's retries are off: a repeated StartTask would
//! be a second task, and reads have a retry of their own that knows the call budget.

mod capture;
mod ecs;
mod failure;
mod sqs;

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::sts::AssumeRoleProvider;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;

use crate::config::SourceConfig;

pub(crate) use ecs::AwsEcs;
pub(crate) use sqs::AwsQueue;

/// Until a connection stands.
const CONNECT_TIMEOUT_MS: u64 = 3_000;
/// One attempt of a call to ECS or STS.
const CALL_ATTEMPT_TIMEOUT_MS: u64 = 10_000;
/// One call to ECS whole, credentials included.
const CALL_TIMEOUT_MS: u64 = 12_000;
/// One receive: longer than the longest long poll of 20 s.
const RECEIVE_ATTEMPT_TIMEOUT_MS: u64 = 25_000;
/// Name of the session under an assumed role, as CloudTrail shows it.
const ROLE_SESSION_NAME: &str = "blox";

/// The SDK clients of one source.
pub(crate) struct AwsClients {
    pub(crate) ecs: AwsEcs,
    pub(crate) queue: Option<AwsQueue>,
}

/// Builds the clients from the SDK's own chain. Asks nobody yet: credentials are fetched with the first call.
pub(crate) async fn connect(config: &SourceConfig) -> AwsClients {
    let shared = shared_config(config).await;
    let ecs = aws_sdk_ecs::config::Builder::from(&shared)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(CALL_ATTEMPT_TIMEOUT_MS, CALL_TIMEOUT_MS))
        .build();
    let sqs = aws_sdk_sqs::config::Builder::from(&shared)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(
            RECEIVE_ATTEMPT_TIMEOUT_MS,
            RECEIVE_ATTEMPT_TIMEOUT_MS + CONNECT_TIMEOUT_MS,
        ))
        .build();
    let sqs = aws_sdk_sqs::Client::from_conf(sqs);
    AwsClients {
        ecs: AwsEcs::new(aws_sdk_ecs::Client::from_conf(ecs)),
        queue: config.queue.as_ref().map(|queue| AwsQueue::new(sqs, queue.clone())),
    }
}

async fn shared_config(config: &SourceConfig) -> SdkConfig {
    let region = Region::new(config.region.clone());
    let shared = aws_config::defaults(BehaviorVersion::latest())
        .region(region.clone())
        .timeout_config(timeouts(CALL_ATTEMPT_TIMEOUT_MS, CALL_TIMEOUT_MS))
        .load()
        .await;
    let Some(role_arn) = &config.role_arn else {
        return shared;
    };
    let provider = AssumeRoleProvider::builder(role_arn.clone())
        .session_name(ROLE_SESSION_NAME)
        .region(region)
        .configure(&shared)
        .build()
        .await;
    shared
        .into_builder()
        .credentials_provider(aws_sdk_ecs::config::SharedCredentialsProvider::new(provider))
        .build()
}

fn timeouts(attempt_ms: u64, operation_ms: u64) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .operation_attempt_timeout(Duration::from_millis(attempt_ms))
        .operation_timeout(Duration::from_millis(operation_ms))
        .build()
}
