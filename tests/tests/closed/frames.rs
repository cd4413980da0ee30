//! Frames that are none, or too large, or of a later version.

use anyhow::{Context, Result, bail, ensure};
use parlance_client::Format::{self, Json, Protobuf};
use parlance_client::text_to;
use parlance_proto::client::v1 as proto;
use parlance_proto::common::v1::VersionRange;
use parlance_tests::client::{CallError, Connection, login_request};
use parlance_tests::cluster::Cluster;
use prost::Message as _;
use proto::client_frame::Body as Ask;
use proto::server_frame::Body as Answer;

use crate::SOON;

const MALFORMED: u16 = 4000;
const TOO_LARGE: u16 = 1009;
const UNSUPPORTED: u16 = 4004;

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
    let cut = frame(Ask::Send(text_to("bob", "cut", "a text that is cut off")));
    let long = frame(Ask::Send(text_to("bob", "long", "x".repeat(200_000))));
    let content = frame(Ask::Send(text_to("bob", "content", "x".repeat(40_000))));
    let bad_utf8 = [0x08, 7, 0x22, 4, 0x0a, 2, 0xff, 0xfe];
    let unknown_body = [0x08, 7, 0xba, 0x3e, 0];
    // What it is, which encoding was agreed on, which one is used, the bytes, what must come of it.
    let table: Vec<(&str, Format, Format, Vec<u8>, Expected)> = vec![
        (
            "random bytes",
            Protobuf,
            Protobuf,
            vec![0xde, 0xad, 0xbe, 0xef, 0xff, 0xff],
            Expected::Close(MALFORMED),
        ),
        (
            "a frame cut off",
            Protobuf,
            Protobuf,
            cut[..cut.len() - 5].to_vec(),
            Expected::Close(MALFORMED),
        ),
        (
            "a length beyond the end",
            Protobuf,
            Protobuf,
            vec![0x22, 0xff, 0xff, 0xff, 0x7f],
            Expected::Close(MALFORMED),
        ),
        (
            "a varint without an end",
            Protobuf,
            Protobuf,
            vec![0xff; 20],
            Expected::Close(MALFORMED),
        ),
        (
            "text that is no UTF-8",
            Protobuf,
            Protobuf,
            bad_utf8.to_vec(),
            Expected::Close(MALFORMED),
        ),
        (
            "a group that never ends",
            Protobuf,
            Protobuf,
            vec![0x0b; 4000],
            Expected::Close(MALFORMED),
        ),
        (
            "text on the binary subprotocol",
            Protobuf,
            Json,
            b"{}".to_vec(),
            Expected::Close(MALFORMED),
        ),
        (
            "binary on the JSON subprotocol",
            Json,
            Protobuf,
            ping.clone(),
            Expected::Close(MALFORMED),
        ),
        (
            "half a JSON text",
            Json,
            Json,
            b"{\"requestId\": \"7\", ".to_vec(),
            Expected::Close(MALFORMED),
        ),
        (
            "deep JSON",
            Json,
            Json,
            "[".repeat(30_000).into_bytes(),
            Expected::Close(MALFORMED),
        ),
        (
            "a frame above the limit",
            Protobuf,
            Protobuf,
            long,
            Expected::Close(TOO_LARGE),
        ),
        (
            "a content above the limit",
            Protobuf,
            Protobuf,
            content,
            Expected::Error("payload_too_large"),
        ),
        (
            "an unknown request",
            Protobuf,
            Protobuf,
            unknown_body.to_vec(),
            Expected::Error("unsupported"),
        ),
    ];
    for (name, agreed, used, message, expected) in table {
        let mut connection = Connection::open_with(gateway, agreed).await?;
        connection.login(&cluster.signer.token("mallory")).await?;
        // The close may overtake the end of a long write.
        let _ = connection.write(used, &message).await;
        expect(&mut connection, expected)
            .await
            .with_context(|| name)?;
    }
    // Fields of a later version are no fault.
    let mut connection = Connection::open(gateway).await?;
    let mut later = frame(Ask::Login(login_request(&cluster.signer.token("mallory"))));
    later.extend([0xfa, 0x7f, 3, 1, 2, 3]);
    connection.write(Protobuf, &later).await?;
    let answer = connection.next_within(SOON).await?;
    ensure!(
        matches!(answer.body, Some(Answer::Login(_))),
        "a login with an unknown field: {answer:?}"
    );
    Ok(())
}

pub(crate) async fn strange_versions(cluster: &Cluster) -> Result<()> {
    let gateway = &cluster.gateway_addresses()[0];
    for (min, max) in [(98, 99), (2, 1), (0, 0)] {
        let mut connection = Connection::open(gateway).await?;
        let mut login = login_request(&cluster.signer.token("mallory"));
        login.protocol = Some(VersionRange { min, max });
        let answer = connection.call(Ask::Login(login)).await;
        let code = answer.as_ref().err().and_then(CallError::code);
        ensure!(
            code.as_deref() == Some("unsupported"),
            "versions {min} to {max}: {answer:?}"
        );
        expect(&mut connection, Expected::Close(UNSUPPORTED)).await?;
    }
    // Whoever says nothing of versions speaks the first, and unknown capabilities are no fault.
    let mut connection = Connection::open(gateway).await?;
    let mut login = login_request(&cluster.signer.token("mallory"));
    login.protocol = None;
    login.capabilities = vec!["unheard-of".into()];
    let answer = connection.request(login).await?;
    ensure!(
        answer.protocol == 1 && answer.capabilities.is_empty(),
        "{answer:?}"
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
