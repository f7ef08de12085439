//! ECS for one source: the API behind the call budget, with a retry for reads, and answers as observations.

use std::sync::Arc;
use std::time::Duration;

use blox_raft::Clock;
use blox_runtime::time::Instant;
use bytes::Bytes;

use crate::answer::{self, Asked, Described, TaskDefinition};
use crate::budget::{Budget, Caller, Category};
use crate::error::CallError;
use crate::metrics::EcsMetrics;
use crate::request::{DESCRIBE_ARNS_MAX, EcsApi, EcsRequest};

/// How often a read is tried.
const READ_ATTEMPTS_MAX: u32 = 5;
/// Pause before the second attempt of a read, doubled for each further one. No jitter: one leader is the only caller.
const READ_BACKOFF_MS: u64 = 200;
/// The longest pause between two attempts.
const READ_BACKOFF_MS_MAX: u64 = 5_000;
/// How long a read may wait for its token.
const READ_BUDGET_WAIT_MS_MAX: u64 = 30_000;
/// The most pages of one list: 1,000 pages of 100 are more tasks than an account may have.
const LIST_PAGES_MAX: usize = 1_000;

/// ECS for one source.
pub struct EcsClient {
    source: String,
    api: Arc<dyn EcsApi>,
    budget: Arc<Budget>,
    clock: Arc<dyn Clock>,
    metrics: EcsMetrics,
}

/// A body, and when the call that brought it was sent.
struct Answered {
    body: Bytes,
    sent_at_ms: i64,
}

impl EcsClient {
    /// A client of `api` that draws from `budget`.
    pub fn new(
        source: String,
        api: Arc<dyn EcsApi>,
        budget: Arc<Budget>,
        clock: Arc<dyn Clock>,
        metrics: EcsMetrics,
    ) -> EcsClient {
        EcsClient {
            source,
            api,
            budget,
            clock,
            metrics,
        }
    }

    /// Name of the source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Calls of a category that may leave now without waiting.
    pub fn calls_available(&self, category: Category) -> usize {
        self.budget.tokens(category, Instant::now()) as usize
    }

    /// All ARNs of a list, page by page, each once. An error leaves nothing: a list that was cut short is no list.
    pub(crate) async fn list(&self, caller: Caller, request: EcsRequest) -> Result<Vec<String>, CallError> {
        let mut arns = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..LIST_PAGES_MAX {
            let answered = self.read(caller, request.page(token.clone())).await?;
            let (page, next) = answer::listed(request.operation(), &answered.body)?;
            arns.extend(page);
            match next {
                Some(next) if Some(&next) == token.as_ref() => break,
                Some(next) => token = Some(next),
                None => {
                    arns.sort_unstable();
                    arns.dedup();
                    return Ok(arns);
                }
            }
        }
        let cause = format!("the list has no end after {} ARNs", arns.len());
        Err(CallError::Unknown {
            operation: request.operation(),
            code: None,
            cause,
        })
    }

    /// Describes any number of ARNs in chunks of 100; `request` makes the call of one chunk.
    pub(crate) async fn describe(
        &self,
        caller: Caller,
        cluster_arn: &str,
        arns: &[String],
        request: impl Fn(Vec<String>) -> EcsRequest,
    ) -> Result<Described, CallError> {
        let mut described = Described::default();
        for chunk in arns.chunks(DESCRIBE_ARNS_MAX) {
            described.absorb(
                self.describe_chunk(caller, cluster_arn, request(chunk.to_vec()))
                    .await?,
            );
        }
        Ok(described)
    }

    /// Makes one Describe call.
    pub(crate) async fn describe_chunk(
        &self,
        caller: Caller,
        cluster_arn: &str,
        request: EcsRequest,
    ) -> Result<Described, CallError> {
        let operation = request.operation();
        let answered = self.read(caller, request).await?;
        self.described(operation, cluster_arn, &answered)
    }

    /// One task definition, by `family`, `family:revision` or ARN.
    pub(crate) async fn task_definition(&self, task_definition: String) -> Result<TaskDefinition, CallError> {
        let request = EcsRequest::DescribeTaskDefinition { task_definition };
        let operation = request.operation();
        let answered = self.read(Caller::OnDemand, request).await?;
        answer::task_definition(operation, &answered.body)
    }

    /// Makes a call that changes something: once, and only if its token is there now, so that the leadership check before it is not stale
    /// when it leaves.
    pub(crate) async fn modify(&self, cluster_arn: &str, request: EcsRequest) -> Result<Described, CallError> {
        let operation = request.operation();
        if let Err(exhausted) = self
            .budget
            .try_take(request.category(), Caller::OnDemand, Instant::now())
        {
            let cause = format!(
                "the call budget is spent; a call may leave in {:?}",
                exhausted.retry_after
            );
            return self.counted(&request, Err(CallError::NotSent { operation, cause }));
        }
        let answered = self.call_once(request).await?;
        self.described(operation, cluster_arn, &answered)
    }

    fn described(
        &self,
        operation: &'static str,
        cluster_arn: &str,
        answered: &Answered,
    ) -> Result<Described, CallError> {
        let asked = Asked {
            operation,
            source: &self.source,
            cluster_arn,
            sent_at_ms: answered.sent_at_ms,
        };
        answer::described(&asked, &answered.body)
    }

    /// A read: waits for its token, and is tried again after throttling and whatever may pass.
    async fn read(&self, caller: Caller, request: EcsRequest) -> Result<Answered, CallError> {
        let operation = request.operation();
        let mut backoff = Duration::from_millis(READ_BACKOFF_MS);
        let mut attempt = 1;
        loop {
            let wait_max = Duration::from_millis(READ_BUDGET_WAIT_MS_MAX);
            if let Err(exhausted) = self.budget.take(request.category(), caller, wait_max).await {
                let cause = format!("the call budget is spent for {:?} more", exhausted.retry_after);
                return Err(CallError::NotSent { operation, cause });
            }
            match self.call_once(request.clone()).await {
                Err(error) if error.is_worth_retrying() && attempt < READ_ATTEMPTS_MAX => {
                    tracing::debug!(source = %self.source, operation, attempt, %error, "read failed, trying again");
                }
                result => return result,
            }
            blox_runtime::time::sleep(backoff).await;
            backoff = (backoff * 2).min(Duration::from_millis(READ_BACKOFF_MS_MAX));
            attempt += 1;
        }
    }

    async fn call_once(&self, request: EcsRequest) -> Result<Answered, CallError> {
        let sent_at_ms = self.clock.wall_ms();
        let result = self.api.call(request.clone()).await;
        self.counted(&request, result).map(|body| Answered { body, sent_at_ms })
    }

    fn counted<T>(&self, request: &EcsRequest, result: Result<T, CallError>) -> Result<T, CallError> {
        let operation = request.operation();
        debug_assert!(
            EcsRequest::OPERATIONS.contains(&operation),
            "{operation} begins without its zero"
        );
        let code = result.as_ref().err().map_or_else(|| "ok".to_string(), CallError::label);
        let labels = [("source", self.source.as_str()), ("op", operation)];
        self.metrics.add(
            "blox_ecs_api_requests_total",
            &[labels[0], labels[1], ("code", &code)],
            1,
        );
        if result.as_ref().is_err_and(CallError::is_throttled) {
            self.metrics.add("blox_ecs_api_throttled_total", &labels, 1);
            self.budget.drain(request.category(), Instant::now());
        }
        let tokens = self.budget.tokens(request.category(), Instant::now());
        let labels = [
            ("source", self.source.as_str()),
            ("category", request.category().name()),
        ];
        self.metrics.set("blox_ecs_budget_tokens", &labels, tokens);
        result
    }
}
