//! Lists and gets of tasks and instances.

use axum::body::Body;
use axum::response::Response;
use blox_store::records::arn::cluster_selector;
use blox_store::{ClusterSelector, ResourceFilter, ResourceIter, StoreError};

use super::V1Request;
use super::answers::{INTERNAL_OF_RESOURCES, PlainError, json_body};
use super::tracked::{Tracked, write_entity};
use crate::answer::AnswerRevision;
use crate::list_body::{ListPart, ListWriter, list_body};
use crate::query::Query;
use crate::state::ApiState;

/// `GET /v1/tasks`, `GET /v1/instances`: by ARN.
pub(super) async fn list(request: &V1Request<'_>, tracked: Tracked) -> Result<Response, PlainError> {
    let filter = filter_of(&request.query, tracked)?;
    let read_failed = PlainError::read(INTERNAL_OF_RESOURCES);
    let view = request.state.view(request.reading()?).await.map_err(&read_failed)?;
    let revision = view.revision();
    let items = request
        .state
        .read_much(move || Ok(view.list(tracked.kind(), filter)?))
        .await
        .map_err(&read_failed)?;
    let writer = ItemsWriter {
        items,
        tracked,
        state: request.state.clone(),
        written: Written::Nothing,
    };
    let mut response = json_body(
        list_body(writer, request.state.large_reads())
            .await
            .map_err(&read_failed)?,
    );
    response.extensions_mut().insert(AnswerRevision(revision));
    Ok(response)
}

/// `GET /v1/tasks/{cluster}/{arn}`, `GET /v1/instances/{cluster}/{arn}`.
pub(super) async fn get(
    request: &V1Request<'_>,
    tracked: Tracked,
    cluster: &str,
    arn: &str,
) -> Result<Response, PlainError> {
    let view = request
        .state
        .view(request.reading()?)
        .await
        .map_err(PlainError::read(INTERNAL_OF_RESOURCES))?;
    let cluster = ClusterSelector::Name(cluster.to_owned());
    let found = view
        .find(tracked.kind(), Some(&cluster), arn)
        .map_err(PlainError::store(INTERNAL_OF_RESOURCES))?
        .ok_or_else(|| PlainError::not_found(tracked.not_found()))?;
    let mut line = Vec::new();
    if !write_entity(&mut line, &found.resource, found.mod_revision) {
        tracked.count_left_out(request.state);
        return Err(PlainError::not_found(tracked.not_found()));
    }
    line.push(b'\n');
    let mut response = json_body(Body::from(line));
    response.extensions_mut().insert(AnswerRevision(view.revision()));
    Ok(response)
}

/// The checks of a list's query, in the contract's order.
fn filter_of(query: &Query, tracked: Tracked) -> Result<ResourceFilter, PlainError> {
    let known = |name: &[u8]| tracked.filters().iter().any(|known| known.as_bytes() == name);
    if !query.names().all(known) {
        return Err(PlainError::bad_request(
            "At least one of the filters provided is unsupported",
        ));
    }
    if query.has_repeated_name() {
        return Err(PlainError::bad_request(
            "At least one of the filters provided is specified multiple times",
        ));
    }
    let status = query.lossy("status").map(|status| status.to_lowercase());
    if status
        .as_deref()
        .is_some_and(|status| !tracked.statuses().contains(&status))
    {
        return Err(PlainError::bad_request("Invalid status"));
    }
    let cluster = match query.lossy("cluster") {
        Some(cluster) => {
            let selector = cluster_selector(&cluster);
            Some(selector.map_err(|_| PlainError::bad_request("Invalid cluster ARN or name"))?)
        }
        None => None,
    };
    Ok(ResourceFilter {
        cluster,
        status,
        started_by: query.lossy("startedBy"),
        ..ResourceFilter::default()
    })
}

/// Writes `{"items":[...]}` and a newline.
struct ItemsWriter {
    items: ResourceIter,
    tracked: Tracked,
    state: ApiState,
    written: Written,
}

enum Written {
    Nothing,
    Head,
    Items,
}

impl ListWriter for ItemsWriter {
    fn write_next(&mut self, out: &mut Vec<u8>) -> Result<ListPart, StoreError> {
        if matches!(self.written, Written::Nothing) {
            out.extend_from_slice(b"{\"items\":[");
            self.written = Written::Head;
        }
        let Some(record) = self.items.next() else {
            out.extend_from_slice(b"]}\n");
            return Ok(ListPart::Last);
        };
        let record = record?;
        let before = out.len();
        if matches!(self.written, Written::Items) {
            out.push(b',');
        }
        if write_entity(out, &record.resource, record.mod_revision) {
            self.written = Written::Items;
        } else {
            out.truncate(before);
            self.tracked.count_left_out(&self.state);
        }
        Ok(ListPart::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(query: &str, tracked: Tracked) -> Result<Option<String>, String> {
        filter_of(&Query::parse(Some(query)), tracked)
            .map(|filter| filter.status)
            .map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn statuses_are_those_of_ecs_in_any_case() {
        assert_eq!(status_of("status=RuNNing", Tracked::Tasks), Ok(Some("running".into())));
        assert_eq!(
            status_of("status=PROVISIONING", Tracked::Tasks),
            Ok(Some("provisioning".into()))
        );
        assert_eq!(
            status_of("status=draining", Tracked::Instances),
            Ok(Some("draining".into()))
        );
        assert!(status_of("status=running", Tracked::Instances).is_err());
        assert!(status_of("status=active", Tracked::Tasks).is_err());
        assert_eq!(status_of("status=", Tracked::Tasks), Ok(None));
    }

    #[test]
    fn started_by_is_a_filter_of_tasks_alone() {
        assert!(filter_of(&Query::parse(Some("startedBy=x")), Tracked::Tasks).is_ok());
        assert!(filter_of(&Query::parse(Some("startedBy=x")), Tracked::Instances).is_err());
    }
}
