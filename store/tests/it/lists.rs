//! Lists of resources: order, filters, pages, older revisions, against a naive filter over a scan.

use blox_store::proto::ResourceRecord;
use blox_store::proto::outcome::Result as Answer;
use blox_store::{ClusterSelector, Key, Kind, ResourceFilter, Revision, Store, View};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{Fed, Task, cluster_arn, command, observe, on_both_engines, seed};

/// (ARN, source) in the order of a list.
fn listed(view: &View, filter: ResourceFilter) -> Vec<(String, String)> {
    let records = view.list(Kind::Task, filter).expect("a list");
    records
        .map(|record| record.expect("readable").resource)
        .map(|task| (task.arn, task.source))
        .collect()
}

/// The same, from everything there is.
fn expected(view: &View, wanted: impl Fn(&ResourceRecord) -> bool) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (_, value) in view.scan(Kind::Task).expect("a scan") {
        let Some(blox_store::proto::stored_value::Body::Resource(task)) = value.body else {
            panic!("no resource")
        };
        if wanted(&task) {
            found.push((task.arn, task.source));
        }
    }
    found.sort();
    found
}

fn of(change: impl FnOnce(&mut ResourceFilter)) -> ResourceFilter {
    let mut filter = ResourceFilter::default();
    change(&mut filter);
    filter
}

/// A fleet of tasks in three clusters of two sources, some of them the same clusters, changing and going; gives a few revisions of it.
fn fleet(store: Store, seed: u64) -> (Fed, Vec<Revision>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut fed = Fed::new(store);
    let mut revisions = Vec::new();
    for version in 1..400 {
        let source = ["one", "two"][random.random_range(0..2)];
        let mut task = Task::new(
            source,
            ["a", "ab", "b"][random.random_range(0..3)],
            &format!("{:02}", random.random_range(0..30)),
        );
        // Short ARNs do not name their cluster: clusters interleave.
        if random.random_range(0..3) == 0 {
            let (front, tail) = task.arn.split_once("/").expect("a path");
            let (cluster, id) = tail.split_once("/").expect("a cluster");
            task.arn = format!("{front}/{id}-{cluster}");
        }
        task.status = ["RUNNING", "PENDING"][random.random_range(0..2)].into();
        task.group = ["", "g1", "g2"][random.random_range(0..3)].into();
        task.started_by = ["", "s1", "s2"][random.random_range(0..3)].into();
        task.instance_arn = format!("arn:instance/{}", random.random_range(0..3));
        let key = Key::resource(Kind::Task, source, &task.cluster_arn, &task.arn);
        let present = fed.store.view().expect("a view").get(&key).expect("readable");
        let _: Answer = match present {
            Some(value) if random.random_range(0..3) == 0 => fed.apply(task.forget(value.mod_revision)),
            _ => fed.apply(observe(vec![task.observation(version)])),
        };
        if version % 80 == 0 {
            revisions.push(fed.revision());
        }
    }
    revisions.push(fed.revision());
    (fed, revisions)
}

/// Every filter, at the head and at older revisions, whether an index serves it or a merge, gives what a naive filter gives, in order.
#[test]
fn filters_choose_and_keep_the_order() {
    let seed = seed();
    on_both_engines(|store| {
        let (fed, revisions) = fleet(store, seed);
        for revision in revisions {
            let view = fed.store.view_at(revision).expect("a view");
            let check = |name: &str, filter: ResourceFilter, wanted: &dyn Fn(&ResourceRecord) -> bool| {
                let found = expected(&view, wanted);
                assert!(!found.is_empty(), "{name} finds something at {revision}, seed {seed}");
                assert_eq!(listed(&view, filter), found, "{name} at {revision}, seed {seed}");
            };
            let fields = |task: &ResourceRecord| task.fields.clone().unwrap_or_default();
            check("all", ResourceFilter::default(), &|_| true);
            check("source", of(|filter| filter.source = Some("two".into())), &|task| {
                task.source == "two"
            });
            let arn = cluster_arn("eu-west-1", "ab");
            check(
                "cluster ARN",
                of(|filter| filter.cluster = Some(ClusterSelector::Arn(arn.clone()))),
                &|task| task.cluster_arn == arn,
            );
            check(
                "cluster name",
                of(|filter| filter.cluster = Some(ClusterSelector::Name("ab".into()))),
                &|task| task.cluster_arn == arn,
            );
            check("status", of(|filter| filter.status = Some("running".into())), &|task| {
                fields(task).status == "RUNNING"
            });
            let in_cluster = of(|filter| {
                filter.status = Some("PENDING".into());
                filter.cluster = Some(ClusterSelector::Arn(arn.clone()));
            });
            check("status in a cluster", in_cluster, &|task| {
                fields(task).status == "PENDING" && task.cluster_arn == arn
            });
            check("group", of(|filter| filter.group = Some("g1".into())), &|task| {
                fields(task).group == "g1"
            });
            check(
                "started by",
                of(|filter| filter.started_by = Some("s2".into())),
                &|task| fields(task).started_by == "s2",
            );
            check(
                "instance",
                of(|filter| filter.instance_arn = Some("arn:instance/1".into())),
                &|task| fields(task).instance_arn == "arn:instance/1",
            );
            check("text", of(|filter| filter.text = Some("TASK/A".into())), &|task| {
                task.arn.contains("task/a")
            });
            let both = of(|filter| {
                filter.group = Some("g2".into());
                filter.source = Some("one".into());
                filter.status = Some("PENDING".into());
            });
            check("several", both, &|task| {
                fields(task).group == "g2" && task.source == "one" && fields(task).status == "PENDING"
            });
        }
    });
}

/// Pages put together are the whole list, without a record twice or left out, while the state changes between them.
#[test]
fn pages_are_the_whole() {
    let seed = seed();
    on_both_engines(|store| {
        let (mut fed, revisions) = fleet(store, seed);
        for filter in [
            ResourceFilter::default(),
            of(|filter| filter.started_by = Some("s1".into())),
            of(|filter| filter.status = Some("Running".into())),
        ] {
            for revision in &revisions {
                let whole = listed(&fed.store.view_at(*revision).expect("a view"), filter.clone());
                let mut paged: Vec<(String, String)> = Vec::new();
                loop {
                    let view = fed.store.view_at(*revision).expect("a view");
                    let page = view
                        .list(
                            Kind::Task,
                            ResourceFilter {
                                after: paged.last().cloned(),
                                ..filter.clone()
                            },
                        )
                        .expect("a list");
                    let page: Vec<_> = page.take(7).map(|record| record.expect("readable").resource).collect();
                    if page.is_empty() {
                        break;
                    }
                    paged.extend(page.into_iter().map(|task| (task.arn, task.source)));
                    // The next page is of the same revision, whatever happens meanwhile.
                    let mut intruder = Task::new("one", "a", &format!("{:02}", paged.len()));
                    intruder.started_by = "s1".into();
                    fed.apply(observe(vec![intruder.observation(1_000 + paged.len() as i64)]));
                }
                assert_eq!(paged, whole, "revision {revision}, seed {seed}");
            }
        }
    });
}

/// A resource is found by its ARN alone, in any or in the named cluster, also after it went, at a revision that had it.
#[test]
fn resources_are_found_by_arn() {
    on_both_engines(|store| {
        let mut fed = Fed::new(store);
        let (mut one, two) = (Task::new("one", "a", "1"), Task::new("two", "a", "1"));
        one.cluster_arn = cluster_arn("eu-west-1", "elsewhere");
        let revision = fed
            .command(command(observe(vec![two.observation(1), one.observation(1)])))
            .revision;
        let find = |view: &View, cluster: Option<&str>| {
            let cluster = cluster.map(|name| ClusterSelector::Name(name.into()));
            view.find(Kind::Task, cluster.as_ref(), &two.arn)
                .expect("readable")
                .map(|record| record.resource.source)
        };
        let then = fed.store.view().expect("a view");
        assert_eq!(find(&then, None).as_deref(), Some("one"));
        assert_eq!(find(&then, Some("a")).as_deref(), Some("two"));
        assert_eq!(find(&then, Some("b")), None);
        fed.apply(two.forget(1));
        assert_eq!(find(&fed.store.view().expect("a view"), Some("a")), None);
        let older = fed.store.view_at(revision).expect("a view");
        assert_eq!(find(&older, Some("a")).as_deref(), Some("two"));
        let record = older
            .resource(Kind::Task, "two", &two.cluster_arn, &two.arn)
            .expect("readable")
            .expect("there");
        assert_eq!((record.create_revision, record.mod_revision, record.version), (1, 1, 1));
    });
}
