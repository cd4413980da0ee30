//! One connection as a reader and a writer of frames, without a task.
//!
//! The cost of an idle connection is its socket: buffers exist only while there is something in them. Whoever reads
//! answers the gateway's pings ([`Incoming::Ping`]) and watches the time; [`crate::Client`] does both.

mod closed;
mod endpoint;
mod error;
mod format;
mod frame;
mod reader;
mod tls;
mod upgrade;
mod writer;

pub use closed::Closed;
pub use endpoint::Endpoint;
pub use error::{ConnectError, WireError};
pub use format::Format;
pub use reader::{Incoming, Reader};
pub use writer::Writer;

/// A frame above this many bytes ends the connection. The largest frames are answers with history, about 1 MiB.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
