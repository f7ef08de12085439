//! One container as `docker inspect` shows it.

use serde_json::Value;

/// Its state at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The whole id: a container that is made anew has another one.
    pub id: String,
    /// `running`, `paused`, `exited` and so on.
    pub status: String,
    /// Of its last end.
    pub exit_code: i64,
    /// Of its first process on this machine; 0: it does not run.
    pub pid: u64,
    /// Its addresses in the project's network.
    pub addresses: Vec<String>,
}

impl Container {
    /// Reads one element of what `docker inspect` says; `None` where it is not of that form.
    pub fn parse(shown: &Value) -> Option<Container> {
        let state = &shown["State"];
        let networks = shown["NetworkSettings"]["Networks"].as_object();
        let addresses = networks
            .into_iter()
            .flat_map(|networks| networks.values())
            .filter_map(|network| network["IPAddress"].as_str())
            .filter(|address| !address.is_empty())
            .map(str::to_owned);
        Some(Container {
            id: shown["Id"].as_str()?.to_owned(),
            status: state["Status"].as_str()?.to_owned(),
            exit_code: state["ExitCode"].as_i64()?,
            pid: state["Pid"].as_u64()?,
            addresses: addresses.collect(),
        })
    }

    /// The id as people write it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What Docker says is read; a container without an address has none, and an answer of another form is none.
    #[test]
    fn what_docker_says_is_read() {
        let shown = json!({"Id": "0123456789abcdef", "State": {"Status": "exited", "ExitCode": 137, "Pid": 0},
            "NetworkSettings": {"Networks": {"x_blox": {"IPAddress": ""}, "other": {"IPAddress": "172.18.0.2"}}}});
        let container = Container::parse(&shown).expect("readable");
        assert_eq!((container.short_id(), container.exit_code), ("0123456789ab", 137));
        assert_eq!(container.addresses, ["172.18.0.2"]);
        assert_eq!(Container::parse(&json!({"Id": "a"})), None);
    }
}
