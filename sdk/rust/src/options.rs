//! How a client connection behaves, and how it introduces itself.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use parlance_proto::client::v1::LoginRequest;
use parlance_proto::ids::{AppAlias, UserId};
use parlance_proto::version::{CLIENT_PROTOCOLS, greeting};

use crate::wire::Format;

/// Settings of one connection. The defaults suit a person at a terminal as well as thousands of connections.
#[derive(Debug, Clone)]
pub struct Options {
    /// How frames are encoded. `Default: Protobuf`
    pub format: Format,
    /// Time to connect, name lookup, TLS and upgrade included. `Default: 10 s`
    pub connect_timeout: Duration,
    /// Time that a request waits for its answer. `Default: 15 s`, above the gateway's own limit for a send
    pub request_timeout: Duration,
    /// A ping goes out when nothing else did for so long; none: never. When nothing comes in for twice as long the connection
    /// counts as lost. `Default: 15 s`, below the gateway's idle limit
    pub keepalive: Option<Duration>,
    /// Pushes that wait for [`crate::PushStream::recv`]; beyond that nothing more is read from the socket, answers
    /// included. `Default: 1,024`
    pub pushes_max: usize,
    /// Requests that wait for the socket; beyond that callers wait. `Default: 1,024`
    pub requests_max: usize,
    /// For `wss://`: PEM file of the authority that signed the gateway's certificate. `Default: the system's`
    pub gateway_ca: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: Format::Protobuf,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(15),
            keepalive: Some(Duration::from_secs(15)),
            pushes_max: 1024,
            requests_max: 1024,
            gateway_ca: None,
        }
    }
}

/// What a client tells of itself when it logs in.
#[derive(Debug, Clone)]
pub struct LoginOptions {
    /// For logs and device lists, 64 bytes at most. `Default: rust`
    pub platform: String,
    /// As the platform. `Default: empty`
    pub device_id: String,
    /// As the platform. `Default: this crate's version`
    pub client_version: String,
    /// The app's id or an alias, for tokens that do not name it; what a token says must agree. `Default: none`
    pub app_id: Option<AppAlias>,
    /// For tokens that do not name their user; what a token says must agree. `Default: none`
    pub user_id: Option<UserId>,
    /// What else a token's format needs, by name. `Default: empty`
    pub extra: HashMap<String, String>,
    /// What the client can do beyond the protocol's version, by name. `Default: empty`
    pub capabilities: Vec<String>,
}

impl LoginOptions {
    /// The request that logs a token in.
    pub fn request(&self, token: &str) -> LoginRequest {
        LoginRequest {
            token: token.to_owned(),
            platform: self.platform.clone(),
            device_id: self.device_id.clone(),
            client_version: self.client_version.clone(),
            app_id: self.app_id.as_ref().map_or_else(String::new, String::from),
            user_id: self.user_id.as_ref().map_or_else(String::new, String::from),
            extra: self.extra.clone(),
            protocol: greeting(CLIENT_PROTOCOLS),
            capabilities: self.capabilities.clone(),
        }
    }
}

impl Default for LoginOptions {
    fn default() -> Self {
        Self {
            platform: "rust".to_owned(),
            device_id: String::new(),
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
            app_id: None,
            user_id: None,
            extra: HashMap::new(),
            capabilities: Vec::new(),
        }
    }
}
