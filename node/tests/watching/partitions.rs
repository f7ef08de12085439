//! The network that tests cut: what it promises them.

use crate::harness::Network;

/// Each fault takes effect on exactly the links it names (the network probes every one itself, and panics where it is otherwise), and what a
/// dead run has left behind under a number is gone once the number is taken again.
#[test]
fn faults_take_effect_and_leave_nothing_behind() {
    let Some(mut network) = Network::or_skip("partitions", 3) else {
        return;
    };
    network.isolate(0);
    network.heal();
    network.cut(1, 2);
    network.unplug(0);
    network.heal();
    let namespace = format!("/run/netns/{}", network.namespace(0));
    assert!(std::path::Path::new(&namespace).exists());
    drop(network);
    assert!(!std::path::Path::new(&namespace).exists(), "{namespace} is still there");
}
