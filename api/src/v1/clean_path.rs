//! Unclean paths (`//`, `.`, `..`) are redirected to their clean form, as Go's routers do.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What Go leaves as it is in a path.
const ESCAPED_IN_PATHS: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// What a redirect's body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing.
    Empty,
    /// A note in HTML, on GET.
    Note,
}

/// The clean form of a path that is not clean; `None`: it is.
pub(super) fn cleaned(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    (clean != path).then_some(clean)
}

/// A decoded path as it stands in a `Location`.
pub(super) fn escaped(path: &str) -> String {
    utf8_percent_encode(path, &ESCAPED_IN_PATHS).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unclean_paths_are_cleaned() {
        for (path, clean) in [
            ("/v1/tasks", None),
            ("/v1/tasks/", None),
            ("/", None),
            ("//v1/tasks", Some("/v1/tasks")),
            ("/v1//tasks/", Some("/v1/tasks/")),
            ("/v1/./tasks", Some("/v1/tasks")),
            ("/v1/x/../tasks", Some("/v1/tasks")),
            ("/../..", Some("/")),
            ("//", Some("/")),
        ] {
            assert_eq!(cleaned(path).as_deref(), clean, "{path}");
        }
    }

    #[test]
    fn a_location_is_escaped() {
        assert_eq!(
            escaped("/v1/tasks/a/arn:aws:x y\"<é"),
            "/v1/tasks/a/arn:aws:x%20y%22%3C%C3%A9"
        );
    }
}
