//! P6: no input makes a process fall over, nobody reads or writes what is not theirs, and whoever misbehaves is the
//! only one who notices.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parlance_proto::client::v1 as proto;
use parlance_proto::tls::Role;
use parlance_tests::admin::channel;
use parlance_tests::client::{
    BINARY, CallError, Connection, JSON, history_forward, login_request, send_request,
};
use parlance_tests::cluster::certs::Authority;
use parlance_tests::cluster::health::http_get;
use parlance_tests::cluster::{Cluster, ClusterSpec};
use parlance_tests::logs::Allowed;
use parlance_tests::story::tell;
use parlance_tests::token::{Signer, unsigned};
use prost::Message as _;
use proto::client_frame::Body as Ask;
use proto::server_frame::Body as Answer;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio_tungstenite::tungstenite::Message;

const SOON: Duration = Duration::from_secs(10);
const LOGIN_TIMEOUT_MS: i64 = 1500;
const IDLE_TIMEOUT_MS: i64 = 8000;

const MALFORMED: u16 = 4000;
const NOT_LOGGED_IN_IN_TIME: u16 = 4001;
const TOKEN_REFUSED: u16 = 4002;
const TOO_SLOW: u16 = 4100;
const IDLE: u16 = 4101;
const TOO_LARGE: u16 = 1009;

/// A gateway with short patience and little memory for slow readers.
fn strict() -> ClusterSpec {
    let limits = format!(
        "[limits]\nlogin_timeout_ms = {LOGIN_TIMEOUT_MS}\nidle_timeout_ms = {IDLE_TIMEOUT_MS}\noutbound_bytes_max = 262144\n"
    );
    ClusterSpec {
        shards: 4,
        gateway_settings: toml::from_str(&limits).unwrap_or_default(),
        ..ClusterSpec::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_frames_and_bad_requests_get_their_error_or_close_code() -> Result<()> {
    tell(strict(), Allowed::default(), async |cluster| {
        bad_frames(cluster).await?;
        bad_requests(cluster).await?;
        others_conversations(cluster).await?;
        bad_upgrades(cluster).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tokens_and_bad_certificates_are_turned_away() -> Result<()> {
    tell(strict(), Allowed::default(), async |cluster| {
        bad_tokens(cluster).await?;
        bad_certificates(cluster).await?;
        noise_on_every_port(cluster).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_and_slow_sockets_are_cut_off_alone() -> Result<()> {
    tell(strict(), Allowed::default(), async |cluster| {
        silent_sockets(cluster).await?;
        slow_reader(cluster).await
    })
    .await
}

/// What a gateway must do about a message.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// Close with this code.
    Close(u16),
    /// Answer with this error, and stay.
    Error(&'static str),
}

async fn bad_frames(cluster: &Cluster) -> Result<()> {
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

async fn bad_requests(cluster: &Cluster) -> Result<()> {
    let gateway = &cluster.gateway_addresses()[0];
    let send = |change: &dyn Fn(&mut proto::SendRequest)| {
        let mut request = send_request("bob", "an id", "a text");
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
            "to themselves",
            Ask::Send(send_request("mallory", "self", "me")),
            "invalid_argument",
        ),
        (
            "to a user without a name",
            Ask::Send(send_request("", "nobody", "you")),
            "invalid_argument",
        ),
        (
            "to a user with a long name",
            Ask::Send(send_request(&"u".repeat(65), "long", "you")),
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

async fn others_conversations(cluster: &Cluster) -> Result<()> {
    let gateway = &cluster.gateway_addresses()[0];
    let mut alice = Connection::logged_in(gateway, &cluster.signer.token("alice")).await?;
    let private = alice
        .send("bob", "private", "for you alone")
        .await?
        .conversation_id;
    let mut mallory = Connection::logged_in(gateway, &cluster.signer.token("mallory")).await?;
    let mut intrusion = send_request("bob", "intrusion", "me too");
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

async fn bad_upgrades(cluster: &Cluster) -> Result<()> {
    let gateway = cluster.address.gateway(1);
    for subprotocol in [None, Some("chat"), Some("parlance.v999")] {
        let refused = Connection::open_with(&gateway.to_string(), subprotocol)
            .await
            .err();
        let text = refused
            .map(|error| format!("{error:#}"))
            .unwrap_or_default();
        ensure!(
            text.contains("400"),
            "an upgrade with {subprotocol:?} must be refused with 400, got {text:?}"
        );
    }
    let (status, _) = http_get(gateway, "/ws").await?;
    ensure!(
        (400..500).contains(&status),
        "GET /ws without an upgrade answers {status}"
    );
    let (status, _) = http_get(gateway, "/../../etc/passwd").await?;
    ensure!(
        (400..500).contains(&status),
        "a path outside answers {status}"
    );
    // A client that does not mask, with a reserved opcode, and one whose frame claims 2^63 bytes.
    for bytes in [
        &[0x8f, 0x05, 1, 2, 3, 4, 5][..],
        &[
            0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
        ],
    ] {
        let mut stream = raw_upgrade(gateway).await?;
        stream.write_all(bytes).await?;
        ends(&mut stream)
            .await
            .with_context(|| format!("bytes {bytes:02x?} on a WebSocket"))?;
    }
    Ok(())
}

async fn raw_upgrade(gateway: std::net::SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(gateway).await?;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {gateway}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {BINARY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await?;
    ensure!(
        answer[..read].starts_with(b"HTTP/1.1 101"),
        "{}",
        String::from_utf8_lossy(&answer[..read])
    );
    Ok(stream)
}

/// Reads on until the other end hangs up.
async fn ends(stream: &mut TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    match tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await {
        Err(_) => bail!("not hung up within {SOON:?}"),
        // A reset is an end, too.
        Ok(_) => Ok(()),
    }
}

async fn bad_tokens(cluster: &Cluster) -> Result<()> {
    let gateway = &cluster.gateway_addresses()[0];
    let (good, app) = (&cluster.signer, cluster.signer.app_id.as_str());
    let foreign = Signer::new(app, b"a secret of somebody else, 32 byte".to_vec());
    let now = parlance_tests::clock::unix_seconds();
    let claims = json!({"app": app, "sub": "bob", "exp": now + 600});
    let token = good.token("bob");
    let (head, tail) = token.split_at(token.len() - 4);
    let (alg_none, alg_other) = (
        json!({"alg": "none", "typ": "JWT"}),
        json!({"alg": "HS512", "typ": "JWT"}),
    );
    let table = [
        ("nothing", String::new(), "token_invalid"),
        ("no token at all", "hello".into(), "token_invalid"),
        ("only dots", "..".into(), "token_invalid"),
        (
            "a changed signature",
            format!("{head}AAAA{}", &tail[4..]),
            "token_invalid",
        ),
        ("a cut signature", head.to_owned(), "token_invalid"),
        ("a foreign secret", foreign.token("bob"), "token_invalid"),
        (
            "alg none without a signature",
            format!("{}.", unsigned(&alg_none, &claims)),
            "token_invalid",
        ),
        (
            "alg none with a signature",
            good.assemble(&alg_none, &claims),
            "token_invalid",
        ),
        (
            "another algorithm",
            good.assemble(&alg_other, &claims),
            "token_invalid",
        ),
        (
            "no expiry",
            good.sign(&json!({"app": app, "sub": "bob"})),
            "token_invalid",
        ),
        (
            "no user",
            good.sign(&json!({"app": app, "exp": now + 600})),
            "token_invalid",
        ),
        (
            "an empty user",
            good.sign(&json!({"app": app, "sub": "", "exp": now + 600})),
            "token_invalid",
        ),
        (
            "a number as user",
            good.sign(&json!({"app": app, "sub": 5, "exp": now + 600})),
            "token_invalid",
        ),
        (
            "no app",
            good.sign(&json!({"sub": "bob", "exp": now + 600})),
            "token_invalid",
        ),
        (
            "not yet",
            good.sign(&json!({"app": app, "sub": "bob", "exp": now + 900, "nbf": now + 600})),
            "token_invalid",
        ),
        (
            "expired",
            good.sign(&json!({"app": app, "sub": "bob", "exp": now - 600})),
            "token_expired",
        ),
        (
            "another app",
            Signer::new("nowhere", vec![7; 32]).token("bob"),
            "app_unknown",
        ),
    ];
    for (name, token, code) in table {
        let mut connection = Connection::open(gateway).await?;
        let answer = connection.login(&token).await;
        let got = answer.as_ref().err().and_then(CallError::code);
        ensure!(
            got.as_deref() == Some(code),
            "{name}: expected {code}, got {answer:?}"
        );
        let end = connection.closed_within(SOON).await;
        ensure!(
            end.close_code() == Some(TOKEN_REFUSED),
            "{name}: expected close code {TOKEN_REFUSED}, got {end}"
        );
    }
    Ok(())
}

async fn bad_certificates(cluster: &Cluster) -> Result<()> {
    use parlance_proto::admin::v1::admin_client::AdminClient;
    use parlance_proto::admin::v1::{CreateAppRequest, GetClusterStatusRequest};
    use parlance_proto::link::v1::WatchClusterRequest;
    use parlance_proto::link::v1::link_client::LinkClient;

    let address = cluster.address.link(1).to_string();
    let ca = &cluster.operator.ca;
    let foreign = Authority::create(&cluster.dir().join("foreign"))?;
    let strangers = [None, Some(foreign.issue("stranger", Role::Admin)?)];
    for identity in &strangers {
        // With TLS 1.3 a client learns only from its first call that its certificate was not taken.
        if let Ok(channel) = channel(&address, ca, identity.as_ref()).await {
            let answer = AdminClient::new(channel)
                .get_cluster_status(GetClusterStatusRequest {})
                .await;
            ensure!(
                answer.is_err(),
                "without a certificate of the cluster: {answer:?}"
            );
        }
    }
    for role in [Role::Gateway, Role::Node(1)] {
        let identity = cluster.authority.issue("wrong-role", role)?;
        let request = CreateAppRequest {
            app_id: "stolen".into(),
            name: String::new(),
        };
        let answer = AdminClient::new(channel(&address, ca, Some(&identity)).await?)
            .create_app(request)
            .await;
        let code = answer.as_ref().err().map(tonic::Status::code);
        ensure!(
            code == Some(tonic::Code::PermissionDenied),
            "{role:?} on the admin API: {answer:?}"
        );
    }
    let identity = cluster.authority.issue("node-on-link", Role::Node(2))?;
    let request = WatchClusterRequest {
        gateway_id: "stranger".into(),
    };
    let answer = LinkClient::new(channel(&address, ca, Some(&identity)).await?)
        .watch_cluster(request)
        .await;
    let code = answer.as_ref().err().map(tonic::Status::code);
    ensure!(
        code == Some(tonic::Code::PermissionDenied),
        "a node on the link: {:?}",
        answer.map(|_| "accepted")
    );
    Ok(())
}

async fn noise_on_every_port(cluster: &Cluster) -> Result<()> {
    let address = &cluster.address;
    let noise: Vec<u8> = (0..4096_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for port in [
        address.link(1),
        address.gateway(1),
        address.node_ops(1),
        address.gateway_ops(1),
    ] {
        let mut stream = TcpStream::connect(port).await?;
        // It may be hung up on half way.
        let _ = stream.write_all(&noise).await;
        ends(&mut stream)
            .await
            .with_context(|| format!("noise on {port}"))?;
    }
    let socket = UdpSocket::bind((address.raft(1).ip(), 0)).await?;
    for chunk in noise.chunks(1200) {
        socket.send_to(chunk, address.raft(1)).await?;
    }
    cluster.wait_nodes_ready(SOON).await?;
    cluster.wait_gateways_ready(SOON).await
}

async fn silent_sockets(cluster: &Cluster) -> Result<()> {
    let gateway = &cluster.gateway_addresses()[0];
    let mut nothing = TcpStream::connect(gateway.as_str()).await?;
    let mut half_a_request = TcpStream::connect(gateway.as_str()).await?;
    half_a_request
        .write_all(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
        .await?;
    let mut no_login = Connection::open(gateway).await?;
    let mut idle = Connection::logged_in(gateway, &cluster.signer.token("idle")).await?;
    let end = no_login.closed_within(SOON).await;
    ensure!(
        end.close_code() == Some(NOT_LOGGED_IN_IN_TIME),
        "no login: {end}"
    );
    let end = idle
        .closed_within(SOON + Duration::from_millis(IDLE_TIMEOUT_MS as u64))
        .await;
    ensure!(end.close_code() == Some(IDLE), "idle: {end}");
    ends(&mut nothing)
        .await
        .context("a socket that says nothing")?;
    ends(&mut half_a_request)
        .await
        .context("half an HTTP request")
}

/// One byte a second out of a small window, while somebody sends 8 MB: only this reader is cut off, and finds
/// everything in the history.
async fn slow_reader(cluster: &Cluster) -> Result<()> {
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
    let reader = tokio::spawn(async move {
        let mut byte = [0];
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            slow.read_exact(&mut byte).await?;
        }
        let mut rest = Vec::new();
        // What was cut off ends; what was not would go on for ever.
        let ended = tokio::time::timeout(SOON * 2, slow.read_to_end(&mut rest)).await;
        anyhow::Ok((ended.is_ok(), rest))
    });
    let text = "x".repeat(28_000);
    for number in 0..MESSAGES {
        sender
            .send("slow", &format!("bulk-{number}"), &text)
            .await
            .context("the sender must not notice")?;
    }
    for seq in 1..=MESSAGES as u64 {
        let frame = friend
            .next_within(SOON)
            .await
            .context("the other session must not notice")?;
        ensure!(
            matches!(&frame.body, Some(Answer::Event(event)) if event.seq == seq),
            "{seq}: another frame"
        );
    }
    let (ended, rest) = reader.await??;
    ensure!(ended, "the slow reader was not cut off");
    let code = TOO_SLOW.to_be_bytes();
    let told = rest.windows(2).rev().take(200).any(|bytes| bytes == code);
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

async fn upgrade_and_login(
    mut stream: TcpStream,
    gateway: std::net::SocketAddr,
    token: &str,
) -> Result<TcpStream> {
    let login = proto::ClientFrame {
        request_id: 1,
        body: Some(Ask::Login(login_request(token))),
    }
    .encode_to_vec();
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {gateway}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {BINARY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await?;
    ensure!(answer[..read].starts_with(b"HTTP/1.1 101"), "no upgrade");
    // A masked binary frame with a mask of zeros, its length in two bytes.
    let length = u16::try_from(login.len())?;
    stream.write_all(&[0x82, 0x80 | 126]).await?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&[0; 4]).await?;
    stream.write_all(&login).await?;
    Ok(stream)
}
