//! Which route a decoded path is.

use axum::http::Method;
use blox_store::records::arn::{ClusterName, InstanceArn, TaskArn};

/// The routes of the old contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'path> {
    Ping,
    Tasks,
    Instances,
    Task { cluster: &'path str, arn: &'path str },
    Instance { cluster: &'path str, arn: &'path str },
    StreamTasks,
    StreamInstances,
    CreateEnvironment,
    Environments,
    Environment { name: &'path str },
    DeleteEnvironment { name: &'path str },
    CreateDeployment { environment: &'path str },
    Deployments { environment: &'path str },
    Deployment { environment: &'path str, id: &'path str },
}

impl<'path> Route<'path> {
    /// The route of a method and a decoded path; `None` for everything else, a wrong method and an invalid name or ARN included.
    pub(super) fn of(method: &Method, path: &'path str) -> Option<Route<'path>> {
        let path = path.strip_prefix("/v1/")?;
        match *method {
            Method::GET => Route::of_get(path),
            Method::POST => match Environments::of(path)? {
                Environments::All => Some(Route::CreateEnvironment),
                Environments::Deployments(environment) => Some(Route::CreateDeployment { environment }),
                _ => None,
            },
            Method::DELETE => match Environments::of(path)? {
                Environments::One(name) => Some(Route::DeleteEnvironment { name }),
                _ => None,
            },
            _ => None,
        }
    }

    fn of_get(path: &'path str) -> Option<Route<'path>> {
        match path {
            "ping" => return Some(Route::Ping),
            "tasks" => return Some(Route::Tasks),
            "instances" => return Some(Route::Instances),
            "stream/tasks" => return Some(Route::StreamTasks),
            "stream/instances" => return Some(Route::StreamInstances),
            _ => {}
        }
        if let Some((cluster, arn)) = path.strip_prefix("tasks/").and_then(|rest| rest.split_once('/')) {
            let valid = cluster.parse::<ClusterName>().is_ok() && arn.parse::<TaskArn>().is_ok();
            return valid.then_some(Route::Task { cluster, arn });
        }
        if let Some((cluster, arn)) = path.strip_prefix("instances/").and_then(|rest| rest.split_once('/')) {
            let valid = cluster.parse::<ClusterName>().is_ok() && arn.parse::<InstanceArn>().is_ok();
            return valid.then_some(Route::Instance { cluster, arn });
        }
        Some(match Environments::of(path)? {
            Environments::All => Route::Environments,
            Environments::One(name) => Route::Environment { name },
            Environments::Deployments(environment) => Route::Deployments { environment },
            Environments::Deployment(environment, id) => Route::Deployment { environment, id },
        })
    }

    /// For metrics.
    pub(super) fn template(self) -> &'static str {
        match self {
            Route::Ping => "/v1/ping",
            Route::Tasks => "/v1/tasks",
            Route::Instances => "/v1/instances",
            Route::Task { .. } => "/v1/tasks/{cluster}/{arn}",
            Route::Instance { .. } => "/v1/instances/{cluster}/{arn}",
            Route::StreamTasks => "/v1/stream/tasks",
            Route::StreamInstances => "/v1/stream/instances",
            Route::CreateEnvironment | Route::Environments => "/v1/environments",
            Route::Environment { .. } | Route::DeleteEnvironment { .. } => "/v1/environments/{name}",
            Route::CreateDeployment { .. } | Route::Deployments { .. } => "/v1/environments/{name}/deployments",
            Route::Deployment { .. } => "/v1/environments/{name}/deployments/{id}",
        }
    }
}

/// The paths under `environments`.
enum Environments<'path> {
    All,
    One(&'path str),
    Deployments(&'path str),
    Deployment(&'path str, &'path str),
}

impl<'path> Environments<'path> {
    fn of(path: &'path str) -> Option<Environments<'path>> {
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["environments"] => Some(Environments::All),
            ["environments", name] if !name.is_empty() => Some(Environments::One(name)),
            ["environments", name, "deployments"] if !name.is_empty() => Some(Environments::Deployments(name)),
            ["environments", name, "deployments", id] if !name.is_empty() && !id.is_empty() => {
                Some(Environments::Deployment(name, id))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = "arn:aws:ecs:us-west-2:123456789012:task/9e48";
    const LONG: &str = "arn:aws-cn:ecs:cn-north-1:123456789012:task/alpha/9e48";

    fn get(path: &str) -> Option<Route<'_>> {
        Route::of(&Method::GET, path)
    }

    #[test]
    fn every_route_is_found() {
        assert_eq!(get("/v1/ping"), Some(Route::Ping));
        assert_eq!(get("/v1/tasks"), Some(Route::Tasks));
        assert_eq!(get("/v1/stream/instances"), Some(Route::StreamInstances));
        for arn in [SHORT, LONG] {
            assert_eq!(
                get(&format!("/v1/tasks/a/{arn}")),
                Some(Route::Task { cluster: "a", arn })
            );
        }
        let arn = "arn:aws:ecs:us-west-2:123456789012:container-instance/alpha/9e48";
        assert_eq!(
            get(&format!("/v1/instances/alpha/{arn}")),
            Some(Route::Instance { cluster: "alpha", arn })
        );
        assert_eq!(
            get("/v1/environments/e/deployments/d"),
            Some(Route::Deployment {
                environment: "e",
                id: "d"
            })
        );
        assert_eq!(
            Route::of(&Method::POST, "/v1/environments"),
            Some(Route::CreateEnvironment)
        );
        assert_eq!(
            Route::of(&Method::POST, "/v1/environments/e/deployments"),
            Some(Route::CreateDeployment { environment: "e" })
        );
        assert_eq!(
            Route::of(&Method::DELETE, "/v1/environments/e"),
            Some(Route::DeleteEnvironment { name: "e" })
        );
    }

    #[test]
    fn everything_else_is_not() {
        let task = format!("/v1/tasks/alpha/{SHORT}");
        for (method, path) in [
            (Method::HEAD, "/v1/ping"),
            (Method::POST, "/v1/ping"),
            (Method::POST, "/v1/tasks"),
            (Method::PUT, "/v1/environments"),
            (Method::DELETE, "/v1/environments"),
            (Method::GET, "/"),
            (Method::GET, "/v1"),
            (Method::GET, "/v1/"),
            (Method::GET, "/v1/tasks/alpha"),
            (Method::GET, "/v1/tasks/alpha/9e48"),
            (
                Method::GET,
                "/v1/tasks/1alpha/arn:aws:ecs:us-west-2:123456789012:task/9e48",
            ),
            (
                Method::GET,
                "/v1/tasks/alpha/arn:aws:ecs:us-west-2:12345678901:task/9e48",
            ),
            (
                Method::GET,
                "/v1/tasks/alpha/arn:azure:ecs:us-west-2:123456789012:task/9e48",
            ),
            (
                Method::GET,
                "/v1/tasks/alpha/arn:aws:ecs:us-west-2:123456789012:container-instance/9e48",
            ),
            (Method::GET, "/v1/environments/"),
            (Method::GET, "/v1/environments/e/deployments/d/x"),
            (Method::DELETE, &task),
        ] {
            assert_eq!(Route::of(&method, path), None, "{method} {path}");
        }
    }
}
