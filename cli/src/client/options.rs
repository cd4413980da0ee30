//! How a client connection behaves.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::WireFormat;

/// Settings of one connection. The defaults suit a person at a terminal as well as thousands of connections.
#[derive(Debug, Clone)]
pub struct Options {
    /// How frames are written. `Default: Protobuf`
    pub format: WireFormat,
    /// Time to connect, TLS and upgrade included. `Default: 10 s`
    pub connect_timeout: Duration,
    /// Time that a request waits for its answer. `Default: 15 s`, above the gateway's own limit for a send
    pub request_timeout: Duration,
    /// A ping goes out when nothing else did for so long; none: never. `Default: 15 s`, below the gateway's idle limit
    pub keepalive: Option<Duration>,
    /// Pushes that wait for [`super::PushStream::recv`]; beyond that nothing more is read from the socket, answers
    /// included. `Default: 1,024`
    pub pushes_max: usize,
    /// Requests that wait for the socket; beyond that callers wait. `Default: 1,024`
    pub requests_max: usize,
    /// Bytes of the socket's read buffer. `Default: 4,096`
    pub read_buffer_bytes: usize,
    /// For `wss://`: PEM file of the authority that signed the gateway's certificate. `Default: the system's`
    pub gateway_ca: Option<PathBuf>,
    /// Free text for the gateway's logs and device lists, at most 64 bytes. `Default: cli`
    pub platform: String,
    /// Names the device, at most 64 bytes. `Default: empty`
    pub device_id: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: WireFormat::Protobuf,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
            keepalive: Some(Duration::from_secs(15)),
            pushes_max: 1024,
            requests_max: 1024,
            read_buffer_bytes: 4096,
            gateway_ca: None,
            platform: "cli".to_owned(),
            device_id: String::new(),
        }
    }
}
