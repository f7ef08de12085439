//! What every log line says of the cluster: node, term and session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The node's name, its term and the session it leads in; cheap to clone, all clones are the same.
#[derive(Clone)]
pub struct Position(Arc<Inner>);

struct Inner {
    node: String,
    term: AtomicU64,
    session: AtomicU64,
}

impl Position {
    /// Before anything is known: term and session 0.
    pub fn new(node: &str) -> Position {
        Position(Arc::new(Inner {
            node: node.to_owned(),
            term: AtomicU64::new(0),
            session: AtomicU64::new(0),
        }))
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// The term.
    pub fn term(&self) -> u64 {
        self.0.term.load(Ordering::Relaxed)
    }

    /// The session this node leads in; 0: it does not lead.
    pub fn session(&self) -> u64 {
        self.0.session.load(Ordering::Relaxed)
    }

    /// A new term.
    pub fn set_term(&self, term: u64) {
        self.0.term.store(term, Ordering::Relaxed);
    }

    /// A new session; 0: it no longer leads.
    pub fn set_session(&self, session: u64) {
        self.0.session.store(session, Ordering::Relaxed);
    }
}
