//! A client of Parlance's native WebSocket protocol.
//!
//! Two layers, and either can be used alone:
//!
//! - [`Client`]: one connection with a task of its own. Requests are typed, each gets the answer that belongs to it,
//!   many may be under way at once; pushes are a stream.
//! - [`wire`]: the same connection without a task, a lock or a queue: a reader and a writer of frames. A load
//!   generator drives thousands of these.
//!
//! Nothing beyond the connection is promised: there is no reconnect, no retry, and no order across connections.
//!
//! ```no_run
//! use parlance_client::{ClientError, LoginOptions, Options, connect, text_to};
//!
//! # async fn example(token: &str) -> Result<(), ClientError> {
//! let (client, mut pushes) = connect("ws://127.0.0.1:7070/ws", Options::default()).await?;
//! client.login(token, &LoginOptions::default()).await?;
//! let sent = client.request(text_to("bob", "m-1", "hello")).await?;
//! println!("stored as {} of {}", sent.seq, sent.conversation_id);
//! while let Some(push) = pushes.recv().await {
//!     println!("{push:?}");
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod history;
mod options;
mod push;
mod request;
mod task;
pub mod wire;

pub use client::{Client, Pending, connect};
pub use error::ClientError;
pub use options::{LoginOptions, Options};
pub use push::{Push, PushStream, random_part};
pub use request::{Request, text_to};
pub use wire::{Closed, ConnectError, Format};
