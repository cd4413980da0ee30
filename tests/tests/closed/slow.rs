//! Sockets that say nothing, and readers that hardly read.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_proto::client::v1 as proto;
use parlance_tests::client::{Connection, conversations_after};
use parlance_tests::cluster::Cluster;
use proto::client_frame::Body as Ask;
use proto::server_frame::Body as Answer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::raw::{ends, server_frames, upgrade_and_login, write_frame};
use crate::{IDLE_TIMEOUT_MS, SOON};

const LOGIN_TIMEOUT: u16 = 4102;
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
    ensure!(end.close_code() == Some(LOGIN_TIMEOUT), "no login: {end}");
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

/// One byte a second out of a small window, while somebody sends 8 MB: this reader is told to fetch what was left out, is not
/// cut off, and finds everything in the history. Nobody else notices.
pub(crate) async fn slow_reader(cluster: &Cluster) -> Result<()> {
    const MESSAGES: usize = 300;
    let gateway = cluster.address.gateway(1);
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let slow = upgrade_and_login(
        socket.connect(gateway).await?,
        gateway,
        &cluster.signer.token("slow"),
    )
    .await?;
    let mut friend =
        Connection::logged_in(&gateway.to_string(), &cluster.signer.token("slow")).await?;
    let mut sender =
        Connection::logged_in(&gateway.to_string(), &cluster.signer.token("quick")).await?;
    let (all_sent, until) = tokio::sync::oneshot::channel();
    let reader = tokio::spawn(read_slowly(slow, until));
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
    let list = reader.await?.context("the slow reader")?;
    ensure!(
        list.len() == 1 && list[0].head_seq == MESSAGES as u64,
        "{list:?}"
    );
    Ok(())
}

/// Reads a byte a second until all is sent, then as everybody does; answers what it lists in the end, on the same connection.
async fn read_slowly(
    mut slow: TcpStream,
    mut until: tokio::sync::oneshot::Receiver<()>,
) -> Result<Vec<proto::Conversation>> {
    let mut said = Vec::new();
    // It pings, so that it is not idle. Whatever fails here fails because it was cut off.
    while until.try_recv().is_err() {
        write_frame(&mut slow, Ask::Ping(proto::PingRequest {})).await?;
        said.push(slow.read_u8().await?);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // From here on it reads as everybody does.
    let resynced = tokio::time::timeout(SOON, async {
        while !server_frames(&said)?.iter().any(is_resync) {
            ensure!(slow.read_buf(&mut said).await? > 0, "it was cut off");
        }
        anyhow::Ok(())
    });
    resynced.await.context("it was never told to fetch")??;
    write_frame(
        &mut slow,
        Ask::Conversations(conversations_after(String::new())),
    )
    .await?;
    let listed = tokio::time::timeout(SOON, async {
        loop {
            let frames = server_frames(&said)?;
            let lists = frames.into_iter().filter_map(|frame| match frame.body {
                Some(Answer::Conversations(list)) => Some(list.conversations),
                _ => None,
            });
            if let Some(list) = lists.last() {
                return anyhow::Ok(list);
            }
            ensure!(slow.read_buf(&mut said).await? > 0, "it was cut off");
        }
    });
    listed.await.context("the list on the same connection")?
}

fn is_resync(frame: &proto::ServerFrame) -> bool {
    matches!(frame.body, Some(Answer::Resync(_)))
}
