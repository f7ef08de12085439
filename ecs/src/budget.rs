//! The call budget: token buckets as ECS' own, so that Blox waits here instead of being throttled there, and leaves room for others.
//!
//! ECS counts per account, region and category ("Request throttling for the Amazon ECS API"); the figures below are its.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blox_runtime::time::Instant;
use parking_lot::Mutex;

use crate::config::SourceConfig;

/// What ECS counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// ListTasks, DescribeTasks, ListContainerInstances, DescribeContainerInstances.
    ResourceRead,
    /// StartTask, StopTask.
    ResourceModify,
    /// ListClusters, DescribeClusters.
    ClusterRead,
    /// DescribeTaskDefinition.
    DefinitionRead,
}

impl Category {
    /// All of them, in the order of their buckets.
    pub const ALL: [Category; 4] = [
        Category::ResourceRead,
        Category::ResourceModify,
        Category::ClusterRead,
        Category::DefinitionRead,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Category::ResourceRead => "resource_read",
            Category::ResourceModify => "resource_modify",
            Category::ClusterRead => "cluster_read",
            Category::DefinitionRead => "definition_read",
        }
    }

    /// Burst (calls) and rate (calls a second) that ECS allows.
    fn limits(self) -> (f64, f64) {
        match self {
            Category::ResourceRead => (100.0, 20.0),
            Category::ResourceModify => (100.0, 40.0),
            Category::ClusterRead => (50.0, 20.0),
            Category::DefinitionRead => (50.0, 20.0),
        }
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Reconcile: takes at most half of every bucket, so that users and the scheduler always find room.
    Reconcile,
    /// A user's request or the scheduler.
    OnDemand,
}

/// The part of each bucket that reconcile may take.
const RECONCILE_SHARE: f64 = 0.5;

/// One token bucket: `burst` tokens at most, refilled at `per_second`. Pure: it is told the time.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    burst: f64,
    per_second: f64,
    tokens: f64,
    refilled_at: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(burst: f64, per_second: f64, now: Instant) -> TokenBucket {
        TokenBucket {
            burst,
            per_second,
            tokens: burst,
            refilled_at: now,
        }
    }

    /// Tokens in it now.
    pub fn tokens(&mut self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.refilled_at).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        self.refilled_at = self.refilled_at.max(now);
        self.tokens
    }

    /// How long until there is a token; zero: there is one.
    pub fn wait(&mut self, now: Instant) -> Duration {
        let lacking = 1.0 - self.tokens(now);
        if lacking <= 0.0 {
            return Duration::ZERO;
        }
        // One millisecond more than computed: a sleep that ends a hair early would only be repeated.
        Duration::from_secs_f64(lacking / self.per_second) + Duration::from_millis(1)
    }

    fn take(&mut self) {
        self.tokens -= 1.0;
    }

    /// ECS throttled although there was a token: someone else uses the account. Start over with an empty bucket.
    pub fn drain(&mut self, now: Instant) {
        self.tokens(now);
        self.tokens = self.tokens.min(0.0);
    }
}

/// No token within the time given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetExhausted {
    /// When there will be one, if nobody else takes it.
    pub retry_after: Duration,
}

struct Buckets {
    whole: TokenBucket,
    reconcile: TokenBucket,
}

/// The buckets of one account and region.
pub struct Budget {
    categories: Mutex<Vec<Buckets>>,
}

impl Budget {
    /// Full buckets.
    pub fn new(now: Instant) -> Budget {
        let buckets = Category::ALL.map(|category| {
            let (burst, per_second) = category.limits();
            Buckets {
                whole: TokenBucket::new(burst, per_second, now),
                reconcile: TokenBucket::new(burst * RECONCILE_SHARE, per_second * RECONCILE_SHARE, now),
            }
        });
        Budget {
            categories: Mutex::new(buckets.into()),
        }
    }

    /// Takes a token now, or says when there will be one.
    pub fn try_take(&self, category: Category, caller: Caller, now: Instant) -> Result<(), BudgetExhausted> {
        let mut categories = self.categories.lock();
        let buckets = &mut categories[category as usize];
        let mut retry_after = buckets.whole.wait(now);
        if caller == Caller::Reconcile {
            retry_after = retry_after.max(buckets.reconcile.wait(now));
        }
        if !retry_after.is_zero() {
            return Err(BudgetExhausted { retry_after });
        }
        buckets.whole.take();
        if caller == Caller::Reconcile {
            buckets.reconcile.take();
        }
        Ok(())
    }

    /// Takes a token, waiting at most `wait_max` for it.
    pub async fn take(&self, category: Category, caller: Caller, wait_max: Duration) -> Result<(), BudgetExhausted> {
        let deadline = Instant::now() + wait_max;
        loop {
            let now = Instant::now();
            let Err(exhausted) = self.try_take(category, caller, now) else {
                return Ok(());
            };
            if now + exhausted.retry_after > deadline {
                return Err(exhausted);
            }
            blox_runtime::time::sleep(exhausted.retry_after).await;
        }
    }

    /// Empties a category's bucket after ECS throttled.
    pub fn drain(&self, category: Category, now: Instant) {
        self.categories.lock()[category as usize].whole.drain(now);
    }

    /// Whole tokens of a category now.
    pub fn tokens(&self, category: Category, now: Instant) -> f64 {
        self.categories.lock()[category as usize].whole.tokens(now).max(0.0)
    }
}

/// The budgets of all sources of a process: those of one account and region share theirs, as ECS has them share its own.
#[derive(Default)]
pub struct Budgets {
    by_place: Mutex<BTreeMap<Place, Arc<Budget>>>,
}

/// What ECS counts together: an account (none: that of the process's own credentials) and a region.
type Place = (Option<String>, String);

impl Budgets {
    /// None yet.
    pub fn new() -> Budgets {
        Budgets::default()
    }

    /// The budget of a source's account and region.
    pub fn of(&self, source: &SourceConfig) -> Arc<Budget> {
        let account = source.role_arn.as_deref().map(account_of);
        let place = (account.map(str::to_owned), source.region.clone());
        let mut by_place = self.by_place.lock();
        Arc::clone(
            by_place
                .entry(place)
                .or_insert_with(|| Arc::new(Budget::new(Instant::now()))),
        )
    }
}

/// The account in `arn:aws:iam::ACCOUNT:role/NAME`; what is no such ARN stands for itself.
fn account_of(role_arn: &str) -> &str {
    role_arn
        .split(':')
        .nth(4)
        .filter(|account| !account.is_empty())
        .unwrap_or(role_arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sources of one account and region draw from the same buckets, by whatever role; others have their own.
    #[tokio::test(start_paused = true)]
    async fn one_account_and_region_has_one_budget() {
        let budgets = Budgets::new();
        let budget = |region: &str, role: Option<&str>| {
            budgets.of(&SourceConfig {
                region: region.into(),
                role_arn: role.map(str::to_owned),
                ..crate::testing::config()
            })
        };
        let own = budget("us-east-1", None);
        own.drain(Category::ResourceRead, Instant::now());
        let tokens = |budget: Arc<Budget>| budget.tokens(Category::ResourceRead, Instant::now());
        assert_eq!(tokens(budget("us-east-1", None)), 0.0);
        assert_eq!(tokens(budget("eu-west-1", None)), 100.0);
        let reader = budget("us-east-1", Some("arn:aws:iam::123456789012:role/reader"));
        assert_eq!(tokens(Arc::clone(&reader)), 100.0);
        reader.drain(Category::ResourceRead, Instant::now());
        assert_eq!(
            tokens(budget("us-east-1", Some("arn:aws:iam::123456789012:role/x"))),
            0.0
        );
        assert_eq!(
            tokens(budget("us-east-1", Some("arn:aws:iam::210987654321:role/x"))),
            100.0
        );
    }

    /// A bucket gives its burst at once, then exactly its rate, and never saves more than its burst.
    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_its_burst_and_then_its_rate() {
        let budget = Budget::new(Instant::now());
        let take_all = || {
            (0..1_000)
                .take_while(|_| {
                    budget
                        .try_take(Category::ResourceModify, Caller::OnDemand, Instant::now())
                        .is_ok()
                })
                .count()
        };
        assert_eq!(take_all(), 100);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(take_all(), 40);
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(take_all(), 100);
    }

    /// Reconcile gets half of the bucket and half of the rate; the other half stays for others.
    #[tokio::test(start_paused = true)]
    async fn reconcile_leaves_half_to_others() {
        let budget = Budget::new(Instant::now());
        let take_all = |caller| {
            (0..1_000)
                .take_while(|_| budget.try_take(Category::ResourceRead, caller, Instant::now()).is_ok())
                .count()
        };
        assert_eq!(take_all(Caller::Reconcile), 50);
        assert_eq!(take_all(Caller::OnDemand), 50);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(take_all(Caller::Reconcile), 20);
        assert_eq!(take_all(Caller::OnDemand), 20);
    }

    /// Waiting ends with a token at the bucket's rate, or at once where the wait would be too long.
    #[tokio::test(start_paused = true)]
    async fn waiting_is_bounded() {
        let budget = Budget::new(Instant::now());
        budget.drain(Category::ResourceRead, Instant::now());
        let begun = Instant::now();
        let refused = budget
            .take(Category::ResourceRead, Caller::OnDemand, Duration::from_millis(10))
            .await;
        assert!(refused.is_err_and(|exhausted| exhausted.retry_after >= Duration::from_millis(50)));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(
            budget
                .take(Category::ResourceRead, Caller::OnDemand, Duration::from_secs(1))
                .await,
            Ok(())
        );
        assert!(begun.elapsed() >= Duration::from_millis(50) && begun.elapsed() < Duration::from_millis(100));
    }
}
