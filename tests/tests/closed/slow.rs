//! Sockets that say nothing, and readers that hardly read.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_proto::client::v1 as proto;
use parlance_tests::client::Connection;
use parlance_tests::cluster::Cluster;
use proto::client_frame::Body as Ask;
use proto::server_frame::Body as Answer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::raw::{ends, upgrade_and_login, write_frame};
use crate::{IDLE_TIMEOUT_MS, SOON};

const NOT_LOGGED_IN_IN_TIME: u16 = 4102;
const TOO_SLOW: u16 = 4100;
const IDLE: u16 = 4101;

pub(crate) async fn silent_sockets(cluster: &Cluster) -> Result<()> {
    let gateway = cluster.address.gateway(1);
    let connect = async || TcpStream::connect(gateway).await.context("connect");
    let mut nothing = connect().await?;
    let mut half_a_request = connect().await?;
    half_a_request
        .write_all(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
        .await?;
    let mut no_login = Connection::open(&gateway.to_string()).await?;
    // Gone without a word, as behind a lost network: it answers no ping either.
    let mut gone =
        upgrade_and_login(connect().await?, gateway, &cluster.signer.token("gone")).await?;
    let end = no_login.closed_within(SOON).await;
    ensure!(
        end.close_code() == Some(NOT_LOGGED_IN_IN_TIME),
        "no login: {end}"
    );
    ends(&mut nothing)
        .await
        .context("a socket that says nothing")?;
    ends(&mut half_a_request)
        .await
        .context("half an HTTP request")?;
    let mut said = Vec::new();
    let patience = SOON + Duration::from_millis(IDLE_TIMEOUT_MS as u64);
    let ended = tokio::time::timeout(patience, gone.read_to_end(&mut said)).await;
    ensure!(ended.is_ok(), "a half-open socket was not closed");
    ensure!(
        told_code(&said, IDLE),
        "a half-open socket was closed without code {IDLE}: {said:02x?}"
    );
    Ok(())
}

/// Whether the last bytes that came hold a close code.
fn told_code(said: &[u8], code: u16) -> bool {
    said.windows(2)
        .rev()
        .take(200)
        .any(|bytes| bytes == code.to_be_bytes())
}

/// One byte a second out of a small window, while somebody sends 8 MB: only this reader is cut off, and finds
/// everything in the history.
pub(crate) async fn slow_reader(cluster: &Cluster) -> Result<()> {
    const MESSAGES: usize = 300;
    let gateway = cluster.address.gateway(1);
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut slow = upgrade_and_login(
        socket.connect(gateway).await?,
        gateway,
        &cluster.signer.token("slow"),
    )
    .await?;
    let mut friend =
        Connection::logged_in(&gateway.to_string(), &cluster.signer.token("slow")).await?;
    let mut sender =
        Connection::logged_in(&gateway.to_string(), &cluster.signer.token("quick")).await?;
    let (all_sent, mut until) = tokio::sync::oneshot::channel();
    let reader = tokio::spawn(async move {
        let mut byte = [0];
        // It pings, so that it is not idle. Whatever fails here fails because it was cut off.
        while until.try_recv().is_err() {
            let _ = write_frame(&mut slow, Ask::Ping(proto::PingRequest {})).await;
            let _ = slow.read_exact(&mut byte).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let mut rest = Vec::new();
        // What was cut off ends; what was not would go on for ever.
        let ended = tokio::time::timeout(SOON, slow.read_to_end(&mut rest)).await;
        (ended.is_ok(), rest)
    });
    // The user's other session reads all the while.
    let friend = tokio::spawn(async move {
        for seq in 1..=MESSAGES as u64 {
            let event = loop {
                let frame = friend.next_within(SOON).await;
                match frame.context("the other session must not notice")?.body {
                    Some(Answer::Event(event)) => break event,
                    // A young cluster may still move a leader.
                    Some(Answer::Resync(_)) => {}
                    other => anyhow::bail!("not event {seq} but {other:?}"),
                }
            };
            ensure!(
                event.seq == seq,
                "event {} in the place of {seq}",
                event.seq
            );
        }
        Ok(())
    });
    let text = "x".repeat(28_000);
    for number in 0..MESSAGES {
        sender
            .send("slow", &format!("bulk-{number}"), &text)
            .await
            .context("the sender must not notice")?;
    }
    friend.await??;
    let _ = all_sent.send(());
    let (ended, rest) = reader.await?;
    ensure!(ended, "the slow reader was not cut off");
    let told = told_code(&rest, TOO_SLOW);
    eprintln!(
        "the slow reader {} told its close code",
        if told { "was" } else { "was not" }
    );
    let mut again =
        Connection::logged_in(&gateway.to_string(), &cluster.signer.token("slow")).await?;
    let list = again.conversations("").await?.conversations;
    ensure!(
        list.len() == 1 && list[0].head_seq == MESSAGES as u64,
        "{list:?}"
    );
    Ok(())
}
