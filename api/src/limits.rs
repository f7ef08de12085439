//! Every fixed limit of the HTTP interface, with its unit in its name. Those that an operator may set are in [`crate::ApiConfig`].

/// The longest path with query; longer ones are answered 414.
pub const URL_BYTES_MAX: usize = 16 * 1024;
/// Request line and headers together; more is answered 431, and a connection of HTTP/1.1 closed.
pub const REQUEST_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of one request of HTTP/1.1; more is answered 431. HTTP/2 has the limit above alone.
pub const REQUEST_HEADERS_MAX: usize = 100;
/// Requests under way on one connection of HTTP/2, watches among them; more wait with the client.
pub const HTTP_2_REQUESTS_MAX: u32 = 256;
/// What a client of HTTP/2 may send ahead of what is read, bytes: all its requests together.
pub const HTTP_2_WINDOW_BYTES: u32 = 64 * 1024;
/// How much of one answer over HTTP/2 is handed over to be sent at once, bytes; as much again waits behind it.
pub const HTTP_2_SEND_BYTES_MAX: usize = 64 * 1024;
/// The largest value of a user's key.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// The longest key of a user, decoded.
pub const KEY_BYTES_MAX: usize = 4096;
/// The largest JSON body.
pub const JSON_BODY_BYTES_MAX: usize = 256 * 1024;
/// How much of a body over its limit is read and thrown away, so that its sender gets to read the 413.
pub const DISCARDED_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Items of a page where `limit` is not given.
pub const PAGE_ITEMS_DEFAULT: usize = 100;
/// The largest `limit`.
pub const PAGE_ITEMS_MAX: usize = 1000;
/// A page of values (keys, quarantined messages) ends once it holds this many bytes, even below `limit`.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Lists are written in chunks of about this size.
pub const LIST_CHUNK_BYTES: usize = 64 * 1024;
/// The longest `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// The longest `X-Request-Id` taken over from a request.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Attributes that an environment may select instances by.
pub const ENVIRONMENT_ATTRIBUTES_MAX: usize = 50;
/// How long a client should wait before it tries again after a 429 or 503.
pub const RETRY_AFTER_SECONDS: u64 = 1;
