//! Frames that are none, or too large, or of a later version.

use anyhow::{Context, Result, bail, ensure};
use parlance_proto::client::v1 as proto;
use parlance_tests::client::{BINARY, Connection, JSON, login_request, send_request};
use parlance_tests::cluster::Cluster;
use prost::Message as _;
use proto::client_frame::Body as Ask;
use proto::server_frame::Body as Answer;
use tokio_tungstenite::tungstenite::Message;

use crate::SOON;

const MALFORMED: u16 = 4000;
const TOO_LARGE: u16 = 1009;

/// What a gateway must do about a message.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// Close with this code.
    Close(u16),
    /// Answer with this error, and stay.
    Error(&'static str),
}

#[allow(clippy::too_many_lines, reason = "most of it is the table")]
pub(crate) async fn bad_frames(cluster: &Cluster) -> Result<()> {
    let gateway = &cluster.gateway_addresses()[0];
    let frame = |body: Ask| {
        proto::ClientFrame {
            request_id: 7,
            body: Some(body),
        }
        .encode_to_vec()
    };
    let ping = frame(Ask::Ping(proto::PingRequest {}));
    let cut = frame(Ask::Send(send_request(
        "bob",
        "cut",
        "a text that is cut off",
    )));
    let long = frame(Ask::Send(send_request("bob", "long", &"x".repeat(200_000))));
    let content = frame(Ask::Send(send_request(
        "bob",
        "content",
        &"x".repeat(40_000),
    )));
    let bad_utf8 = [0x08, 7, 0x22, 4, 0x0a, 2, 0xff, 0xfe];
    let unknown_body = [0x08, 7, 0xba, 0x3e, 0];
    let table: Vec<(&str, &'static str, Message, Expected)> = vec![
        (
            "random bytes",
            BINARY,
            Message::binary(vec![0xde, 0xad, 0xbe, 0xef, 0xff, 0xff]),
            Expected::Close(MALFORMED),
        ),
        (
            "a frame cut off",
            BINARY,
            Message::binary(cut[..cut.len() - 5].to_vec()),
            Expected::Close(MALFORMED),
        ),
        (
            "a length beyond the end",
            BINARY,
            Message::binary(vec![0x22, 0xff, 0xff, 0xff, 0x7f]),
            Expected::Close(MALFORMED),
        ),
        (
            "a varint without an end",
            BINARY,
            Message::binary(vec![0xff; 20]),
            Expected::Close(MALFORMED),
        ),
        (
            "text that is no UTF-8",
            BINARY,
            Message::binary(bad_utf8.to_vec()),
            Expected::Close(MALFORMED),
        ),
        (
            "a group that never ends",
            BINARY,
            Message::binary(vec![0x0b; 4000]),
            Expected::Close(MALFORMED),
        ),
        (
            "text on the binary subprotocol",
            BINARY,
            Message::text("{}"),
            Expected::Close(MALFORMED),
        ),
        (
            "binary on the JSON subprotocol",
            JSON,
            Message::binary(ping.clone()),
            Expected::Close(MALFORMED),
        ),
        (
            "half a JSON text",
            JSON,
            Message::text("{\"requestId\": \"7\", "),
            Expected::Close(MALFORMED),
        ),
        (
            "deep JSON",
            JSON,
            Message::text("[".repeat(30_000)),
            Expected::Close(MALFORMED),
        ),
        (
            "a frame above the limit",
            BINARY,
            Message::binary(long),
            Expected::Close(TOO_LARGE),
        ),
        (
            "a content above the limit",
            BINARY,
            Message::binary(content),
            Expected::Error("payload_too_large"),
        ),
        (
            "an unknown request",
            BINARY,
            Message::binary(unknown_body.to_vec()),
            Expected::Error("unsupported"),
        ),
    ];
    for (name, subprotocol, message, expected) in table {
        let mut connection = Connection::open_with(gateway, Some(subprotocol)).await?;
        connection.login(&cluster.signer.token("mallory")).await?;
        // The close may overtake the end of a long write.
        let _ = connection.write(message).await;
        expect(&mut connection, expected)
            .await
            .with_context(|| name)?;
    }
    // Fields of a later version are no fault.
    let mut connection = Connection::open(gateway).await?;
    let mut later = frame(Ask::Login(login_request(&cluster.signer.token("mallory"))));
    later.extend([0xfa, 0x7f, 3, 1, 2, 3]);
    connection.write(Message::binary(later)).await?;
    let answer = connection.next_within(SOON).await?;
    ensure!(
        matches!(answer.body, Some(Answer::Login(_))),
        "a login with an unknown field: {answer:?}"
    );
    Ok(())
}

async fn expect(connection: &mut Connection, expected: Expected) -> Result<()> {
    match expected {
        Expected::Close(code) => {
            let end = connection.closed_within(SOON).await;
            ensure!(
                end.close_code() == Some(code),
                "expected close code {code}, got {end}"
            );
        }
        Expected::Error(name) => {
            let frame = connection.next_within(SOON).await?;
            let Some(Answer::Error(error)) = &frame.body else {
                bail!("expected {name}, got {frame:?}")
            };
            ensure!(
                error.code().name() == name && frame.request_id == 7,
                "expected {name}, got {frame:?}"
            );
            connection
                .ping()
                .await
                .context("the connection must live on")?;
        }
    }
    Ok(())
}
