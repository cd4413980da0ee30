//! Good frames with bad requests in them, and requests for what is not theirs.

use anyhow::{Context, Result, ensure};
use parlance_client::text_to;
use parlance_proto::client::v1 as proto;
use parlance_tests::client::{CallError, Connection, history_forward, login_request};
use parlance_tests::cluster::Cluster;
use proto::client_frame::Body as Ask;

#[allow(clippy::too_many_lines, reason = "most of it is the table")]
pub(crate) async fn bad_requests(cluster: &Cluster) -> Result<()> {
    let gateway = &cluster.gateway_addresses()[0];
    let send = |change: &dyn Fn(&mut proto::SendRequest)| {
        let mut request = text_to("bob", "an id", "a text");
        change(&mut request);
        Ask::Send(request)
    };
    let to = |id: &str| Some(proto::send_request::Target::ConversationId(id.to_owned()));
    let table: Vec<(&str, Ask, &str)> = vec![
        ("no target", send(&|r| r.target = None), "invalid_argument"),
        (
            "no content",
            send(&|r| r.content = None),
            "invalid_argument",
        ),
        (
            "an empty content",
            send(&|r| r.content = Some(proto::Content { kind: None })),
            "invalid_argument",
        ),
        (
            "no client message id",
            send(&|r| r.client_message_id = String::new()),
            "invalid_argument",
        ),
        (
            "a long client message id",
            send(&|r| r.client_message_id = "i".repeat(65)),
            "invalid_argument",
        ),
        (
            "a control character",
            send(&|r| r.client_message_id = "a\nb".into()),
            "invalid_argument",
        ),
        (
            "an id that is shown in another order than it has",
            send(&|r| r.client_message_id = "a\u{202e}b".into()),
            "invalid_argument",
        ),
        (
            "to a user whose name looks like another's",
            Ask::Send(text_to("bo\u{200b}b", "look-alike", "you")),
            "invalid_argument",
        ),
        (
            "a conversation of somebody invisible",
            send(&|r| r.target = to("d:6:b\u{feff}ob:mallory")),
            "invalid_argument",
        ),
        (
            "to themselves",
            Ask::Send(text_to("mallory", "self", "me")),
            "invalid_argument",
        ),
        (
            "to a user without a name",
            Ask::Send(text_to("", "nobody", "you")),
            "invalid_argument",
        ),
        (
            "to a user with a long name",
            Ask::Send(text_to("u".repeat(65), "long", "you")),
            "invalid_argument",
        ),
        (
            "to no conversation",
            send(&|r| r.target = to("d:99:x:y")),
            "invalid_argument",
        ),
        (
            "to users in falling order",
            send(&|r| r.target = to("d:7:mallory:bob")),
            "invalid_argument",
        ),
        (
            "a second login",
            Ask::Login(login_request(&cluster.signer.token("bob"))),
            "already_logged_in",
        ),
        (
            "history of nothing",
            Ask::History(proto::HistoryRequest::default()),
            "invalid_argument",
        ),
        (
            "history of a bad id",
            Ask::History(history_forward("d:bob", 1)),
            "invalid_argument",
        ),
    ];
    let mut connection = Connection::open(gateway).await?;
    let early = connection.send("bob", "early", "before the login").await;
    ensure!(
        early.as_ref().err().and_then(CallError::code).as_deref() == Some("not_logged_in"),
        "{early:?}"
    );
    connection.ping().await.context("a ping needs no login")?;
    connection.login(&cluster.signer.token("mallory")).await?;
    for (name, ask, code) in table {
        let answer = connection.call(ask).await;
        let got = answer.as_ref().err().and_then(CallError::code);
        ensure!(
            got.as_deref() == Some(code),
            "{name}: expected {code}, got {answer:?}"
        );
    }
    connection
        .send("bob", "good", "after all that")
        .await
        .context("the session must live on")?;
    let mut history = history_forward("d:3:bob:mallory", 1);
    history.limit = u32::MAX;
    let read = connection.history(history).await?;
    ensure!(
        read.events.len() == 1 && read.head_seq == 1,
        "only the good send may be stored: {read:?}"
    );
    Ok(())
}

pub(crate) async fn others_conversations(cluster: &Cluster) -> Result<()> {
    let gateway = &cluster.gateway_addresses()[0];
    let mut alice = Connection::logged_in(gateway, &cluster.signer.token("alice")).await?;
    let private = alice
        .send("bob", "private", "for you alone")
        .await?
        .conversation_id;
    let mut mallory = Connection::logged_in(gateway, &cluster.signer.token("mallory")).await?;
    let mut intrusion = text_to("bob", "intrusion", "me too");
    intrusion.target = Some(proto::send_request::Target::ConversationId(private.clone()));
    let mark = proto::mark_read_request::Target::ConversationId(private.clone());
    for ask in [
        Ask::Send(intrusion),
        Ask::History(history_forward(&private, 1)),
        Ask::MarkRead(proto::MarkReadRequest {
            target: Some(mark),
            seq: 1,
        }),
    ] {
        let answer = mallory.call(ask.clone()).await;
        let code = answer.as_ref().err().and_then(CallError::code);
        ensure!(
            code.as_deref() == Some("permission_denied"),
            "{ask:?} was answered with {answer:?}"
        );
    }
    let list = mallory.conversations("").await?.conversations;
    ensure!(
        list.iter().all(|row| row.conversation_id != private),
        "a stranger sees {list:?}"
    );
    let log = alice.history(history_forward(&private, 1)).await?;
    ensure!(log.events.len() == 1, "a stranger wrote: {log:?}");
    Ok(())
}
