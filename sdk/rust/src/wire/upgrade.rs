//! The HTTP request that turns a socket into a WebSocket.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::handshake::client::{Response, generate_key};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::http::{StatusCode, Uri};

use super::Format;

/// The head of a gateway's answer is far below.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Upgrades; what was read beyond the answer is returned.
pub(super) async fn upgrade<S>(
    socket: &mut S,
    uri: &Uri,
    format: Format,
) -> Result<BytesMut, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = generate_key();
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let subprotocol = format.subprotocol();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    socket
        .write_all(request.as_bytes())
        .await
        .map_err(|e| e.to_string())?;
    socket.flush().await.map_err(|e| e.to_string())?;
    let mut inbox = BytesMut::new();
    loop {
        if let Some((length, response)) = Response::try_parse(&inbox).map_err(|e| e.to_string())? {
            inbox.advance(length);
            check(&response, &inbox, &key, subprotocol)?;
            return Ok(inbox);
        }
        let read = socket.read_buf(&mut inbox).await;
        if read.map_err(|e| e.to_string())? == 0 || inbox.len() > HEAD_BYTES_MAX {
            return Err("no answer to the WebSocket upgrade".to_owned());
        }
    }
}

fn check(response: &Response, body: &[u8], key: &str, subprotocol: &str) -> Result<(), String> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let words = String::from_utf8_lossy(body);
        let text = format!("the gateway answered HTTP {} {words}", response.status());
        return Err(text.trim_end().to_owned());
    }
    let has = |name: &str, value: &str| {
        let header = response.headers().get(name);
        header.is_some_and(|header| header.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    let accepted = response.headers().get("sec-websocket-accept");
    if !has("upgrade", "websocket")
        || !has("connection", "upgrade")
        || accepted.is_none_or(|accepted| *accepted != derive_accept_key(key.as_bytes()))
    {
        return Err("what answers is not a WebSocket server".to_owned());
    }
    if !has("sec-websocket-protocol", subprotocol) {
        return Err(format!("the gateway does not speak {subprotocol}"));
    }
    Ok(())
}
