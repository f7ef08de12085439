//! What an operator sees: tables, refusals, progress, and nodes that say what they wait for.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::replaced::{NO_ENDPOINT, ids, list};
use crate::harness::member::{blox_member, endpoints, member, refused, text, waits_to_be_taken_in, well};
use crate::harness::{Cluster, DEADLINE, eventually};

/// Listing, every kind of refusal with exit code 1 and what to do, wrong usage with 2, and a replacement whose progress is shown while the new node
/// stands still; that node answers nobody before it is a member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_says_what_happens() {
    let mut cluster = Cluster::start(Cluster::directory(), NO_ENDPOINT, &[]).await;
    let all = endpoints(&cluster);
    let table = well(&member(&all, &["list"]).await);
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows.len() == 4 && rows[0].starts_with("NUMBER  NAME  ROLE"), "{table}");
    assert_eq!(table.matches(" voter ").count(), 3, "{table}");
    assert_eq!(table.matches(" yes ").count(), 1, "one leader: {table}");
    // The first endpoint is dead: the next one answers.
    let some: Vec<String> = ["--endpoint", "http://127.0.0.1:9"]
        .map(str::to_owned)
        .into_iter()
        .chain(all.clone())
        .collect();
    assert_eq!(ids(&list(&some).await), [1, 2, 3]);
    for words in [
        vec![],
        vec!["replace"],
        vec!["list", "--output", "yaml"],
        vec!["list", "--endpoint", "nonsense"],
    ] {
        let output = member(&[], &words).await;
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", text(&output.stderr));
    }

    cluster.nodes[2].kill().await;
    cluster.leader().await;
    eventually("c is missed", DEADLINE, || async {
        let list = list(&all).await;
        let c = list["members"]
            .as_array()
            .and_then(|members| members.iter().find(|member| member["name"] == "c").cloned());
        match c.as_ref().and_then(|c| c["last_heard_ms"].as_u64()) {
            Some(heard) if heard < 2_500 => Err(list.to_string()),
            _ => Ok(()),
        }
    })
    .await;
    for (words, says) in [
        (vec!["remove", "b"], vec!["would lose the quorum", "`c` (node 3"]),
        (vec!["remove", "a"], vec!["would lose the quorum"]),
        (vec!["replace", "c"], vec!["no candidate `c`", "empty data directory"]),
        (vec!["replace", "nobody"], vec!["no voter `nobody`"]),
        (vec!["remove", "nobody"], vec!["no member `nobody`"]),
        (vec!["promote", "d"], vec!["no candidate or learner `d`"]),
    ] {
        let why = refused(&member(&all, &words).await).to_lowercase();
        assert!(says.iter().all(|says| why.contains(says)), "{words:?}: {why}");
    }
    assert_eq!(ids(&list(&all).await), [1, 2, 3], "nothing was changed");

    std::fs::remove_dir_all(cluster.nodes[2].data()).expect("its disk can be lost");
    cluster.nodes[2].start();
    waits_to_be_taken_in(&cluster, 2).await;
    let url = format!("{}/v2/kv/k?consistency=stale", cluster.nodes[2].url());
    let answer = cluster.client.get(&url).await.expect("it serves HTTP");
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (503, Some("not_a_member"))
    );
    let table = well(&member(&all, &["list"]).await);
    assert!(
        table.contains("candidate") && table.contains("blox member replace c"),
        "{table}"
    );
    // It stands still: the command says so, ends when its time is up, and said again goes on once the node moves again.
    cluster.nodes[2].pause();
    let why = refused(&member(&all, &["replace", "c", "--timeout", "3s"]).await);
    assert!(why.contains("--timeout") && why.contains("again to go on"), "{why}");
    let mut replacing = blox_member(&all, &["replace", "c"]).spawn().expect("it can be started");
    let mut said = BufReader::new(replacing.stderr.take().expect("piped")).lines();
    let progress = tokio::time::timeout(DEADLINE, async {
        loop {
            let line = said.next_line().await.expect("readable").expect("it goes on");
            if line.contains("catching up") {
                return line;
            }
        }
    });
    let progress = progress.await.expect("progress is shown");
    assert!(
        progress.contains("entries behind") && progress.contains("`c` (node 1"),
        "{progress}"
    );
    println!("{progress}");
    cluster.nodes[2].resume();
    let mut output = String::new();
    let mut stdout = replacing.stdout.take().expect("piped");
    let ended = tokio::time::timeout(DEADLINE, async {
        stdout.read_to_string(&mut output).await.expect("readable");
        replacing.wait().await.expect("awaited")
    });
    assert!(ended.await.expect("in time").success());
    assert!(output.contains("is a voter now, in the place of `c`"), "{output}");
    cluster.ready(2).await;
    // Said again it is done already.
    assert!(well(&member(&all, &["replace", "c"]).await).contains("has taken that place already"));
}

/// Two of three nodes lose their disks: they found no second cluster beside the third, and all three run on, not ready, and say what to do; given one
/// disk back, the third and that one go on, and the other is replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_lost_disks_found_no_second_cluster() {
    let mut cluster = Cluster::start(Cluster::directory(), NO_ENDPOINT, &[]).await;
    let answer = cluster.put("/v2/kv/k", &serde_json::json!("kept")).await;
    assert!(answer.is_success());
    let ours = cluster.get(2, "/v2/cluster").await.json()["cluster_id"].clone();
    cluster.kill_all().await;
    let (lost, kept) = (cluster.nodes[0].data(), cluster.nodes[0].data().with_extension("kept"));
    std::fs::rename(&lost, &kept).expect("its disk can be taken away");
    std::fs::remove_dir_all(cluster.nodes[1].data()).expect("its disk can be lost");
    for node in &mut cluster.nodes {
        node.start();
    }
    for position in [0, 1] {
        waits_to_be_taken_in(&cluster, position).await;
    }
    let url = format!("{}/readyz", cluster.nodes[2].url());
    eventually("the third says what it waits for", DEADLINE, || async {
        let answer = cluster.client.get(&url).await?;
        let says = answer.status == 503
            && answer
                .text()
                .contains("only 1 can still have its state, and 2 are needed");
        if says { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    for (position, expected) in [(0, ""), (1, ""), (2, ours.as_str().expect("an id"))] {
        cluster.nodes[position].assert_runs();
        let url = format!("{}/v2/cluster", cluster.nodes[position].url());
        assert_eq!(
            cluster.client.get_json(&url).await.expect("it answers")["cluster_id"],
            expected
        );
    }
    cluster.nodes[0].kill().await;
    std::fs::remove_dir_all(&lost).expect("empty as it is");
    std::fs::rename(&kept, &lost).expect("its disk is found again");
    cluster.nodes[0].start();
    cluster.ready(0).await;
    well(&member(&endpoints(&cluster), &["replace", "b"]).await);
    cluster.ready(1).await;
    assert_eq!(cluster.get(1, "/v2/kv/k").await.text(), "\"kept\"");
    assert_eq!(cluster.get(1, "/v2/cluster").await.json()["cluster_id"], ours);
}
