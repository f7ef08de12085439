//! One revision of a task definition.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Name;
use crate::clock::epoch_seconds;

/// What a container of a definition asks for.
#[derive(Clone, Debug)]
pub(crate) struct ContainerTemplate {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) cpu: u32,
    pub(crate) memory: u32,
    /// (container port, host port); host port 0 is chosen when the task is placed.
    pub(crate) ports: Vec<(u16, u16)>,
}

/// One revision.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) arn: Name,
    pub(crate) family: String,
    pub(crate) revision: u32,
    pub(crate) active: bool,
    /// As DescribeTaskDefinition shows it, without its status.
    document: Value,
    pub(crate) containers: Vec<ContainerTemplate>,
    /// CPU units of the task.
    pub(crate) cpu: u32,
    /// MiB of the task.
    pub(crate) memory: u32,
    /// Has a network interface of its own.
    pub(crate) own_interface: bool,
    /// Attributes an instance must have, with their value if one is named.
    pub(crate) required_attributes: Vec<(String, Option<String>)>,
}

/// Why a definition was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionError {
    #[error("{0} is not an object of the expected shape")]
    Shape(&'static str),
    #[error("Family contains invalid characters or is too long.")]
    Family,
    #[error("Container list cannot be empty.")]
    NoContainer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerInput {
    name: String,
    image: String,
    cpu: u32,
    memory: Option<u32>,
    memory_reservation: Option<u32>,
    port_mappings: Vec<PortInput>,
}

impl Default for ContainerInput {
    fn default() -> Self {
        Self {
            name: "main".into(),
            image: "scratch".into(),
            cpu: 0,
            memory: None,
            memory_reservation: None,
            port_mappings: Vec::new(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PortInput {
    container_port: u16,
    host_port: u16,
}

#[derive(Deserialize)]
struct AttributeInput {
    name: String,
    value: Option<String>,
}

impl Definition {
    /// Reads a RegisterTaskDefinition request.
    pub(crate) fn register(
        request: &Value,
        arn_prefix: &str,
        revision: u32,
        now_ms: u64,
    ) -> Result<Self, DefinitionError> {
        let family = request["family"].as_str().unwrap_or_default().to_owned();
        let allowed = |character: char| character.is_ascii_alphanumeric() || character == '-' || character == '_';
        if family.is_empty() || family.len() > 255 || !family.chars().all(allowed) {
            return Err(DefinitionError::Family);
        }
        let containers = containers(request)?;
        let cpu = task_size(&request["cpu"]).unwrap_or_else(|| containers.iter().map(|one| one.cpu).sum());
        let memory = task_size(&request["memory"]).unwrap_or_else(|| containers.iter().map(|one| one.memory).sum());
        let arn: Name = format!("{arn_prefix}{family}:{revision}").into();
        Ok(Self {
            document: document(request, &arn, revision, now_ms),
            arn,
            family,
            revision,
            active: true,
            containers,
            cpu,
            memory,
            own_interface: request["networkMode"] == "awsvpc",
            required_attributes: required_attributes(request)?,
        })
    }

    /// As DescribeTaskDefinition shows it.
    pub(crate) fn document(&self) -> Value {
        let mut document = self.document.clone();
        document["status"] = json!(if self.active { "ACTIVE" } else { "INACTIVE" });
        document
    }

    /// The same revision, no longer to be launched.
    pub(crate) fn deactivated(&self) -> Self {
        Self {
            active: false,
            ..self.clone()
        }
    }

    /// Host ports that must be free on the instance.
    pub(crate) fn host_ports(&self) -> impl Iterator<Item = u16> {
        self.containers
            .iter()
            .flat_map(|one| &one.ports)
            .map(|(_, host)| *host)
            .filter(|host| *host != 0)
    }
}

fn containers(request: &Value) -> Result<Vec<ContainerTemplate>, DefinitionError> {
    let inputs: Vec<ContainerInput> = serde_json::from_value(request["containerDefinitions"].clone())
        .map_err(|_| DefinitionError::Shape("containerDefinitions"))?;
    if inputs.is_empty() {
        return Err(DefinitionError::NoContainer);
    }
    let template = |input: ContainerInput| ContainerTemplate {
        name: input.name,
        image: input.image,
        cpu: input.cpu,
        memory: input.memory_reservation.or(input.memory).unwrap_or(0),
        ports: input
            .port_mappings
            .iter()
            .map(|port| (port.container_port, port.host_port))
            .collect(),
    };
    Ok(inputs.into_iter().map(template).collect())
}

fn required_attributes(request: &Value) -> Result<Vec<(String, Option<String>)>, DefinitionError> {
    if request["requiresAttributes"].is_null() {
        return Ok(Vec::new());
    }
    let inputs: Vec<AttributeInput> = serde_json::from_value(request["requiresAttributes"].clone())
        .map_err(|_| DefinitionError::Shape("requiresAttributes"))?;
    Ok(inputs.into_iter().map(|input| (input.name, input.value)).collect())
}

fn document(request: &Value, arn: &str, revision: u32, now_ms: u64) -> Value {
    let mut document = request.clone();
    document["taskDefinitionArn"] = json!(arn);
    document["revision"] = json!(revision);
    document["registeredAt"] = json!(epoch_seconds(now_ms));
    document["compatibilities"] = json!(["EC2", "FARGATE"]);
    for (name, default) in [
        ("volumes", json!([])),
        ("placementConstraints", json!([])),
        ("requiresAttributes", json!([])),
    ] {
        if document[name].is_null() {
            document[name] = default;
        }
    }
    if let Some(fields) = document.as_object_mut() {
        fields.remove("tags");
    }
    document
}

/// Task-level sizes are strings of digits on the wire.
fn task_size(value: &Value) -> Option<u32> {
    value.as_str()?.parse().ok()
}
