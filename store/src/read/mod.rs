//! Reading: a consistent cut, ranges of it, resources in the order of their ARNs, its history.

pub(crate) mod cursor;
pub(crate) mod cut;
pub(crate) mod filter;
pub(crate) mod history;
pub(crate) mod list;
mod merge;
mod status;

pub(crate) use cut::Cut;
