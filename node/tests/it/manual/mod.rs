//! The manual says what is so: its commands run as they stand, its messages are the program's, its links lead somewhere.

mod machines;
mod quotations;
mod script;

use std::path::{Path, PathBuf};

use machines::Machines;

/// The top of the checkout.
fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(checkout().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every page of the manual, by its path in the checkout.
fn pages() -> Vec<String> {
    let folder = std::fs::read_dir(checkout().join("docs/operations")).expect("it is there");
    let mut pages: Vec<String> = folder
        .map(|entry| {
            entry
                .expect("it can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/operations/{name}"))
        .collect();
    pages.push("deploy/README.md".to_owned());
    pages.sort();
    pages
}

/// A page's commands, one after another, on a cluster of its own.
macro_rules! followed {
    ($($test:ident: $page:literal),* $(,)?) => {
        const FOLLOWED: &[&str] = &[$($page),*];
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                if !has_curl() {
                    println!("SKIPPED {}: there is no curl here (scripts/prerequisites.sh test)", stringify!($test));
                    return;
                }
                Machines::start().await.follow($page, &read($page)).await;
            }
        )*
    };
}

followed! {
    the_guide_can_be_followed: "deploy/README.md",
    alerts_can_be_looked_into: "docs/operations/alerts.md",
    backup_and_restore_work_as_written: "docs/operations/backup.md",
    configuring_works_as_written: "docs/operations/configure.md",
    failures_look_as_written: "docs/operations/failures.md",
    installing_works_as_written: "docs/operations/install.md",
    looking_works_as_written: "docs/operations/README.md",
    upgrading_works_as_written: "docs/operations/upgrade.md",
}

fn has_curl() -> bool {
    let asked = std::process::Command::new("curl").arg("--version").output();
    asked.is_ok_and(|output| output.status.success())
}

/// No page with commands is left out.
#[test]
fn every_page_with_commands_is_followed() {
    for page in pages() {
        let has_commands = !script::steps(&read(&page)).is_empty();
        assert_eq!(has_commands, FOLLOWED.contains(&page.as_str()), "{page}");
    }
}
