//! What a node's container may do: next to nothing. `docker inspect` says what was asked for, the kernel and a few attempts to write say what came of
//! it. Pure: from what was said to sentences.

use serde_json::Value;

/// The user and the group of every process of a node.
const USER: &str = "65532";
/// Where a node's data is.
pub const DATA: &str = "/var/lib/blox";
/// Places outside it, where nobody may write: not the node's user, not root. (`/tmp` is memory.)
pub const ELSEWHERE: [&str; 5] = ["/", "/etc", "/root", "/usr/local/bin", "/var/lib"];
/// Says of each folder whether a file can be made there; it is removed at once.
pub const TRY_TO_WRITE: &str = "\
for folder in \"$@\"; do
  file=$folder/.blox-failover-probe
  if touch \"$file\" 2>/dev/null; then rm -f \"$file\"; echo \"written $folder\"; else echo \"refused $folder\"; fi
done";
/// What the kernel says of the node's own process.
pub const ASK_KERNEL: &str = "cat /proc/1/status";

/// What `docker inspect` shows of a container (one element) that a node's must not have; nothing: it is confined. What is not shown is not so.
pub fn of_configuration(shown: &Value) -> Vec<String> {
    let host = &shown["HostConfig"];
    let texts = |list: &Value| -> Vec<String> {
        let all = list.as_array().into_iter().flatten();
        all.filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let mut found = Vec::new();
    let user = shown["Config"]["User"].as_str().unwrap_or_default();
    if user != USER && user != format!("{USER}:{USER}") {
        found.push(format!("it runs as user {user:?}, not {USER}"));
    }
    if host["ReadonlyRootfs"] != true {
        found.push("its root file system is not read-only".to_owned());
    }
    if !texts(&host["CapDrop"])
        .iter()
        .any(|one| one.eq_ignore_ascii_case("all"))
    {
        found.push(format!("not all capabilities are dropped: {}", host["CapDrop"]));
    }
    if !texts(&host["CapAdd"]).is_empty() {
        found.push(format!("capabilities are added: {}", host["CapAdd"]));
    }
    if host["Privileged"] != false {
        found.push("it is privileged".to_owned());
    }
    let no_new = |option: &String| {
        let (name, value) = option.split_once([':', '=']).unwrap_or((option, "true"));
        name == "no-new-privileges" && value == "true"
    };
    if !texts(&host["SecurityOpt"]).iter().any(no_new) {
        found.push(format!("new privileges are not forbidden: {}", host["SecurityOpt"]));
    }
    found
}

/// What Docker's own check says of a container: `starting`, `healthy`, `unhealthy`; `None` where there is no check.
pub fn health(shown: &Value) -> Option<&str> {
    shown["State"]["Health"]["Status"].as_str()
}

/// What `/proc/PID/status` shows of a process that a node's must not have; what is not shown is not so.
pub fn of_process(status: &str) -> Vec<String> {
    let value = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or("nothing")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let four_times = [USER; 4].join(" ");
    let mut found = Vec::new();
    for (name, wanted) in [
        ("Uid", four_times.as_str()),
        ("Gid", &four_times),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        let shown = value(name);
        if shown != wanted {
            found.push(format!(
                "the kernel says {name} of its process is {shown}, not {wanted}"
            ));
        }
    }
    found
}

/// What [`TRY_TO_WRITE`] said as `user` of the data volume, where one must be able to write, and of places outside it, where not. A place of which it
/// said nothing is as bad.
pub fn of_attempts(user: &str, said: &str, data: &[&str], elsewhere: &[&str]) -> Vec<String> {
    let says = |word: &str, folder: &str| said.lines().any(|line| line == format!("{word} {folder}"));
    let refused = data.iter().filter(|folder| !says("written", folder));
    let written = elsewhere.iter().filter(|folder| !says("refused", folder));
    refused
        .map(|folder| format!("{user} cannot write its data volume {folder}"))
        .chain(written.map(|folder| format!("{user} can write {folder}, outside its data volume")))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown() -> Value {
        json!({"State": {"Status": "running", "Health": {"Status": "healthy", "FailingStreak": 0}},
            "Config": {"User": "65532:65532"},
            "HostConfig": {"ReadonlyRootfs": true, "CapAdd": null, "CapDrop": ["ALL"], "Privileged": false,
                "SecurityOpt": ["no-new-privileges:true"]}})
    }

    /// As the shipped file makes it, in each of Docker's spellings.
    #[test]
    fn a_confined_container_is_found_so() {
        assert_eq!(of_configuration(&shown()), Vec::<String>::new());
        for option in ["no-new-privileges", "no-new-privileges=true"] {
            let mut other = shown();
            other["HostConfig"]["SecurityOpt"] = json!(["label=disable", option]);
            other["Config"]["User"] = json!("65532");
            assert_eq!(of_configuration(&other), Vec::<String>::new());
        }
    }

    /// Each freedom is a sentence of its own.
    #[test]
    fn each_freedom_is_named() {
        for (path, value, word) in [
            ("/Config/User", json!(""), "as user \"\""),
            ("/Config/User", json!("0:65532"), "as user \"0:65532\""),
            ("/HostConfig/ReadonlyRootfs", json!(false), "not read-only"),
            ("/HostConfig/CapDrop", json!(["NET_RAW"]), "not all capabilities"),
            ("/HostConfig/CapDrop", Value::Null, "not all capabilities"),
            ("/HostConfig/CapAdd", json!(["NET_ADMIN"]), "capabilities are added"),
            ("/HostConfig/Privileged", json!(true), "privileged"),
            ("/HostConfig/SecurityOpt", Value::Null, "new privileges"),
            (
                "/HostConfig/SecurityOpt",
                json!(["no-new-privileges:false"]),
                "new privileges",
            ),
        ] {
            let mut free = shown();
            *free.pointer_mut(path).expect("it is there") = value;
            let found = of_configuration(&free);
            assert!(found.len() == 1 && found[0].contains(word), "{path}: {found:?}");
        }
        assert_eq!(of_configuration(&json!({})).len(), 5, "what is not shown is not so");
    }

    /// Docker's word on health, where it has one.
    #[test]
    fn health_is_read() {
        assert_eq!(health(&shown()), Some("healthy"));
        assert_eq!(health(&json!({"State": {"Status": "running"}})), None);
    }

    /// A process without any power, one with some, and a kernel that says nothing.
    #[test]
    fn the_kernel_is_believed() {
        let well = "Name:\tblox\nUid:\t65532\t65532\t65532\t65532\nGid:\t65532\t65532\t65532\t65532\nCapInh:\t0000000000000000\n\
            CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n";
        assert_eq!(of_process(well), Vec::<String>::new());
        let free = well
            .replace("CapBnd:\t0000000000000000", "CapBnd:\t00000000a80425fb")
            .replace("NoNewPrivs:\t1", "NoNewPrivs:\t0")
            .replace("Uid:\t65532\t65532", "Uid:\t0\t65532");
        let found = of_process(&free);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0].contains("Uid of its process is 0 65532 65532 65532"),
            "{found:?}"
        );
        assert!(of_process("").iter().all(|sentence| sentence.contains("is nothing")));
    }

    /// Only the data volume can be written; of what nothing is said, the worst is assumed.
    #[test]
    fn only_the_data_volume_is_written() {
        let judge = |said: &str| of_attempts("root", said, &["/data"], &["/", "/etc"]);
        assert_eq!(judge("written /data\nrefused /\nrefused /etc\n"), Vec::<String>::new());
        assert_eq!(
            judge("refused /data\nrefused /\nwritten /etc\n"),
            [
                "root cannot write its data volume /data",
                "root can write /etc, outside its data volume"
            ]
        );
        assert_eq!(judge("").len(), 3);
    }
}
