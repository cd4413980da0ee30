//! Every limit that two programs must agree on, with its unit and its reason.

/// Bytes of a user id. Vendors allow 32 (Tencent Cloud IM, ZEGO ZIM); 64 leaves room for prefixes.
pub const USER_ID_BYTES_MAX: usize = 64;
/// Bytes of an app id; it is part of every key.
pub const APP_ID_BYTES_MAX: usize = 32;
/// Bytes of an app's alias. Vendors have numbers, and texts of 64 (Alibaba interactive messaging).
pub const APP_ALIAS_BYTES_MAX: usize = 64;
/// Bytes of a group's or room's id, without its prefix. As a user id.
pub const GROUP_ID_BYTES_MAX: usize = 64;
/// Bytes of a client message id: a UUID with a prefix fits.
pub const CLIENT_MESSAGE_ID_BYTES_MAX: usize = 64;
/// Bytes of a message's encoded content. Vendors allow 3 to 12 KiB; above this belongs into an object store.
pub const CONTENT_BYTES_MAX: usize = 32 * 1024;
/// Bytes of an encoded event's body: a message's content, its client message id and what frames them.
pub const EVENT_BODY_BYTES_MAX: usize = CONTENT_BYTES_MAX + 256;
/// Default limit of one client frame in bytes: the content, its ids and some room.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Events in one history answer.
pub const HISTORY_EVENTS_MAX: u32 = 200;
/// Events in a history answer when the client does not say.
pub const HISTORY_EVENTS_DEFAULT: u32 = 50;
/// Bytes of what one answer carries, but for a single event or conversation, which always comes: what a phone on a slow line
/// takes in a few seconds. A page ends early, and says that there is more.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of content that the conversation list shows of a last event.
pub const PREVIEW_BYTES_MAX: usize = 2 * 1024;
/// Messages a second that an app's limits can allow.
pub const MESSAGES_PER_SECOND_MAX: u32 = 1_000_000;
/// Conversations on one page of the list.
pub const CONVERSATIONS_PAGE_MAX: u32 = 100;
/// Shards of a cluster. Each costs memory and heartbeats on all its replicas without any load: with as many as this nine
/// nodes were measured (docs/benchmarks.md). A shard takes thousands of messages a second.
pub const SHARD_COUNT_MAX: u32 = 512;
/// Bytes of one gRPC message on a link, either way.
pub const LINK_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
