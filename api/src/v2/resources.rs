//! Tasks, instances and clusters with every field that ECS sent.

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::Response;
use blox_store::records::arn::cluster_selector;
use blox_store::{ClusterSelector, Kind, ResourceFilter, ResourceIter, Revision, StoreError};

use super::json::{push, push_resource};
use super::request::{entity_tag, json_body, path_text};
use crate::list_body::{ListPart, ListWriter, list_body};
use crate::paging::{PAGING_KEYS, PageToken, page_limit, query_hash};
use crate::problem::{Problem, ProblemKind};
use crate::query::{Query, invalid};
use crate::reading::{READING_KEYS, Reading};
use crate::state::ApiState;

const CLUSTER_FILTERS: [&str; 4] = ["cluster", "source", "status", "q"];
const INSTANCE_FILTERS: [&str; 5] = ["cluster", "source", "status", "q", "instance"];
const TASK_FILTERS: [&str; 10] = [
    "cluster",
    "source",
    "status",
    "q",
    "instance",
    "desired_status",
    "started_by",
    "family",
    "group",
    "launch_type",
];

pub(super) async fn list_tasks(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    list(&state, &uri, Kind::Task, &TASK_FILTERS).await
}

pub(super) async fn list_instances(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    list(&state, &uri, Kind::Instance, &INSTANCE_FILTERS).await
}

pub(super) async fn list_clusters(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    list(&state, &uri, Kind::Cluster, &CLUSTER_FILTERS).await
}

pub(super) async fn get_task(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    get(&state, Kind::Task, &path_text(&uri, "/v2/tasks/")?, &uri).await
}

pub(super) async fn get_instance(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    get(&state, Kind::Instance, &path_text(&uri, "/v2/instances/")?, &uri).await
}

pub(super) async fn get_cluster(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    get(&state, Kind::Cluster, &path_text(&uri, "/v2/clusters/")?, &uri).await
}

/// One page, by ARN, then source. All pages show the revision of the first.
async fn list(state: &ApiState, uri: &Uri, kind: Kind, filters: &[&str]) -> Result<Response, Problem> {
    let query = Query::parse(uri.query());
    let known: Vec<&str> = filters
        .iter()
        .chain(&PAGING_KEYS)
        .chain(&READING_KEYS)
        .copied()
        .collect();
    query.only(&known)?;
    let limit = page_limit(&query)?;
    let hash = query_hash(kind.name(), &query, filters);
    let token = PageToken::from_query(&query, hash, 2)?;
    let mut filter = filter_of(&query)?;
    let reading = Reading::from_query(&query)?;
    let view = match &token {
        None => state.view(reading).await?,
        Some(token) => {
            state.barrier(Reading::at_least(token.revision)).await?;
            state.store().view_at(token.revision)?
        }
    };
    if let Some(token) = token {
        filter.after = Some(position_of(token)?);
    }
    let revision = view.revision();
    let items = state.read_much(move || Ok(view.list(kind, filter)?)).await?;
    let page = PageWriter {
        items,
        remaining: limit,
        revision,
        hash,
        last: None,
    };
    Ok(json_body(
        StatusCode::OK,
        revision,
        list_body(page, state.large_reads()).await?,
    ))
}

/// One resource by its ARN (the first by source, where several sources observe it).
async fn get(state: &ApiState, kind: Kind, arn: &str, uri: &Uri) -> Result<Response, Problem> {
    let query = Query::parse(uri.query());
    let known: Vec<&str> = ["cluster"].iter().chain(&READING_KEYS).copied().collect();
    query.only(&known)?;
    let cluster = cluster_of(&query)?;
    let view = state.view(Reading::from_query(&query)?).await?;
    let Some(record) = view.find(kind, cluster.as_ref(), arn)? else {
        let detail = format!("There is no {} '{arn}' at revision {}.", kind.name(), view.revision());
        return Err(Problem::new(ProblemKind::ResourceMissing, detail));
    };
    let mut line = Vec::new();
    push_resource(&mut line, &record.resource, record.mod_revision, record.create_revision);
    line.push(b'\n');
    let mut response = json_body(StatusCode::OK, view.revision(), Body::from(line));
    response
        .headers_mut()
        .insert(header::ETAG, entity_tag(record.mod_revision));
    Ok(response)
}

fn filter_of(query: &Query) -> Result<ResourceFilter, Problem> {
    let text = |name| query.text(name).map(|value| value.map(str::to_owned));
    Ok(ResourceFilter {
        cluster: cluster_of(query)?,
        source: text("source")?,
        status: text("status")?,
        desired_status: text("desired_status")?,
        started_by: text("started_by")?,
        family: text("family")?,
        group: text("group")?,
        instance_arn: text("instance")?,
        launch_type: text("launch_type")?,
        text: text("q")?,
        v1_only: false,
        after: None,
    })
}

fn cluster_of(query: &Query) -> Result<Option<ClusterSelector>, Problem> {
    let cluster = query.text("cluster")?.map(cluster_selector).transpose();
    cluster.map_err(|_| invalid("cluster", "is neither a cluster's name nor its ARN"))
}

fn position_of(token: PageToken) -> Result<(String, String), Problem> {
    let mut parts = token.last.into_iter().map(String::from_utf8);
    match (parts.next(), parts.next()) {
        (Some(Ok(arn)), Some(Ok(source))) => Ok((arn, source)),
        _ => Err(invalid(
            "next_token",
            "is not a token of this query; leave it out to begin again",
        )),
    }
}

/// Writes `{"items":[...],"revision":N,"next_token":...}` and a newline.
struct PageWriter {
    items: ResourceIter,
    remaining: usize,
    revision: Revision,
    hash: u64,
    /// ARN and source of what was written last.
    last: Option<(String, String)>,
}

impl ListWriter for PageWriter {
    fn write_next(&mut self, out: &mut Vec<u8>) -> Result<ListPart, StoreError> {
        out.extend_from_slice(if self.last.is_none() { b"{\"items\":[" } else { b"" });
        let next = self.items.next().transpose()?;
        let Some(record) = next.as_ref().filter(|_| self.remaining > 0) else {
            self.write_end(out, next.is_some());
            return Ok(ListPart::Last);
        };
        if self.last.is_some() {
            out.push(b',');
        }
        push_resource(out, &record.resource, record.mod_revision, record.create_revision);
        self.remaining -= 1;
        self.last = Some((record.resource.arn.clone(), record.resource.source.clone()));
        Ok(ListPart::More)
    }
}

impl PageWriter {
    fn write_end(&self, out: &mut Vec<u8>, more: bool) {
        let token = self.last.as_ref().filter(|_| more).map(|(arn, source)| {
            let last = vec![arn.clone().into_bytes(), source.clone().into_bytes()];
            PageToken {
                revision: self.revision,
                last,
            }
            .encode(self.hash)
        });
        out.extend_from_slice(b"],\"revision\":");
        push(out, &self.revision);
        out.extend_from_slice(b",\"next_token\":");
        push(out, &token);
        out.extend_from_slice(b"}\n");
    }
}
