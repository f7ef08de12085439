//! Keys as types: what stands where in the `latest` family.
//!
//! Bytes: kind, then the parts, each but the last ended by a zero byte. No part may hold a zero byte (names and ARNs never do; user keys are
//! the only part of theirs), so byte order is the order of the parts.

use bytes::{BufMut, Bytes, BytesMut};

/// What kind of thing a key names. The numbers stand on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// An ECS cluster.
    Cluster = 1,
    /// A container instance.
    Instance = 2,
    /// A task.
    Task = 3,
    /// An environment, by name.
    Environment = 4,
    /// A deployment, by environment id and its own.
    Deployment = 5,
    /// A launch, by environment id and instance: at most one is open.
    Launch = 6,
    /// A stop asked of ECS, by environment id and task.
    Stop = 7,
    /// A key of the users' own.
    User = 8,
}

impl Kind {
    /// Every kind, in the order of the bytes.
    pub const ALL: [Kind; 8] = [
        Kind::Cluster,
        Kind::Instance,
        Kind::Task,
        Kind::Environment,
        Kind::Deployment,
        Kind::Launch,
        Kind::Stop,
        Kind::User,
    ];

    /// The kind of that number, if there is one.
    pub fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The word users see: `task`, `instance`, `kv` and so on.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cluster => "cluster",
            Kind::Instance => "instance",
            Kind::Task => "task",
            Kind::Environment => "environment",
            Kind::Deployment => "deployment",
            Kind::Launch => "launch",
            Kind::Stop => "stop",
            Kind::User => "kv",
        }
    }

    /// The kind of that word, if there is one.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// An encoded key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Bytes);

impl Key {
    /// A resource's key: kind, source, cluster ARN, its own ARN (a cluster's own ARN is its cluster ARN).
    pub fn resource(kind: Kind, source: &str, cluster_arn: &str, arn: &str) -> Key {
        Key::of(kind, &[source.as_bytes(), cluster_arn.as_bytes(), arn.as_bytes()])
    }

    /// An environment's key.
    pub fn environment(name: &str) -> Key {
        Key::of(Kind::Environment, &[name.as_bytes()])
    }

    /// A deployment's key.
    pub fn deployment(environment_id: &str, deployment_id: &str) -> Key {
        Key::of(Kind::Deployment, &[environment_id.as_bytes(), deployment_id.as_bytes()])
    }

    /// A launch's key.
    pub fn launch(environment_id: &str, instance_arn: &str) -> Key {
        Key::of(Kind::Launch, &[environment_id.as_bytes(), instance_arn.as_bytes()])
    }

    /// A stop's key.
    pub fn stop(environment_id: &str, task_arn: &str) -> Key {
        Key::of(Kind::Stop, &[environment_id.as_bytes(), task_arn.as_bytes()])
    }

    /// A key of the users' own: any bytes.
    pub fn user(key: &[u8]) -> Key {
        Key::of(Kind::User, &[key])
    }

    fn of(kind: Kind, parts: &[&[u8]]) -> Key {
        let length = 1 + parts.iter().map(|part| part.len() + 1).sum::<usize>();
        let mut bytes = BytesMut::with_capacity(length);
        bytes.put_u8(kind as u8);
        for (position, part) in parts.iter().enumerate() {
            if position > 0 {
                bytes.put_u8(0);
            }
            bytes.put_slice(part);
        }
        Key(bytes.freeze())
    }

    /// The key of stored bytes; `None` where they do not begin with a kind.
    pub fn from_bytes(bytes: Bytes) -> Option<Key> {
        Kind::from_byte(*bytes.first()?)?;
        Some(Key(bytes))
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        Kind::from_byte(self.0[0]).expect("a key is only made with a kind in front")
    }

    /// All its bytes, the kind first.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// All its bytes, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The part after the kind: of a user key, the key as the user gave it.
    pub fn tail(&self) -> &[u8] {
        &self.0[1..]
    }

    /// The parts, as text (for kinds whose parts are text).
    pub fn parts(&self) -> Vec<String> {
        self.tail()
            .split(|byte| *byte == 0)
            .map(|part| String::from_utf8_lossy(part).into_owned())
            .collect()
    }
}
