//! What a link session carries, keeps and lets wait.

use parlance_proto::link::v1::{HistoryResult, response::Body};

use super::frames::FRAME_BYTES_MAX;
use super::*;

fn session() -> Arc<LinkSession> {
    let hello = Hello {
        gateway_id: "gateway-1".into(),
        link_id: "link".into(),
        version: "1.2.3".into(),
        ..Hello::default()
    };
    Arc::new(LinkSession::new(1, &hello, &Held::new(1 << 30)))
}

fn response(id: u64) -> Response {
    Response { id, body: None }
}

#[tokio::test]
async fn a_short_break_sends_the_unacknowledged_again_and_nothing_else() {
    let session = session();
    let (stream, _) = session.attach(0).unwrap();
    let (to, mut from) = mpsc::channel(8);
    let writer = tokio::spawn({
        let session = session.clone();
        async move { session.write(stream, to).await }
    });
    assert_eq!(session.state().waiting, Duration::ZERO);
    session.respond(response(1));
    let first = from.recv().await.unwrap().frame;
    session.respond(response(2));
    let second = from.recv().await.unwrap().frame;
    assert_eq!((first.number, second.number), (1, 2));
    let state = session.state();
    assert!(state.waiting > Duration::ZERO && state.connected);
    assert_eq!(
        (state.gateway_id, state.version),
        ("gateway-1".into(), "1.2.3".into())
    );
    drop(from);
    writer.await.unwrap();
    assert!(session.detach(stream));

    session.respond(response(3));
    let (stream, _) = session.attach(1).unwrap();
    let (to, mut from) = mpsc::channel(8);
    tokio::spawn({
        let session = session.clone();
        async move { session.write(stream, to).await }
    });
    let again = from.recv().await.unwrap().frame;
    let new = from.recv().await.unwrap().frame;
    assert_eq!((again.number, again.responses), (2, vec![response(2)]));
    assert_eq!((new.number, new.responses), (3, vec![response(3)]));
}

#[tokio::test]
async fn a_receipt_comes_with_the_acknowledgement_or_the_end_of_the_session() {
    let session = session();
    let (stream, _) = session.attach(0).unwrap();
    let (to, mut from) = mpsc::channel(8);
    tokio::spawn({
        let session = session.clone();
        async move { session.write(stream, to).await }
    });
    let (receipt, mut received) = Receipt::new();
    session.publish(Bytes::from_static(b"event"), receipt);
    let number = from.recv().await.unwrap().frame.number;
    assert!(received.try_recv() == Err(oneshot::error::TryRecvError::Empty));
    session.acknowledge(number);
    assert!(received.await.is_err());

    let (receipt, received) = Receipt::new();
    session.publish(Bytes::from_static(b"event"), receipt);
    assert!(session.detach(stream));
    assert!(
        received.await.is_err(),
        "nobody waits for a gateway without a stream"
    );
    let (receipt, received) = Receipt::new();
    session.publish(Bytes::from_static(b"event"), receipt);
    assert!(received.await.is_err());
    let (stream, _) = session.attach(number).unwrap();
    let (receipt, received) = Receipt::new();
    session.publish(Bytes::from_static(b"event"), receipt);
    assert!(stream > 0);
    session.close();
    assert!(received.await.is_err());
    assert!(
        session.attach(0).is_none(),
        "a closed session does not come back"
    );
}

#[tokio::test]
async fn large_answers_go_in_several_frames() {
    let session = session();
    let (stream, _) = session.attach(0).unwrap();
    let (to, mut from) = mpsc::channel(8);
    let large = |id| Response {
        id,
        body: Some(Body::History(HistoryResult {
            events: vec![vec![0; FRAME_BYTES_MAX].into()],
            ..HistoryResult::default()
        })),
    };
    (0..20).for_each(|id| session.respond(large(id)));
    tokio::spawn({
        let session = session.clone();
        async move { session.write(stream, to).await }
    });
    for id in 0..20 {
        let frame = from.recv().await.unwrap().frame;
        assert_eq!(frame.responses, [large(id)]);
        session.acknowledge(frame.number);
    }
    assert_eq!(session.inner.lock().waiting.used(), 0);
    assert_eq!(session.state().waiting, Duration::ZERO);
}

#[tokio::test]
async fn an_answer_that_no_frame_can_carry_is_an_error_and_the_link_goes_on() {
    let session = session();
    let (stream, _) = session.attach(0).unwrap();
    let (to, mut from) = mpsc::channel(8);
    session.respond(Response {
        id: 1,
        body: Some(Body::History(HistoryResult {
            events: vec![vec![0; 20 * 1024 * 1024].into()],
            ..HistoryResult::default()
        })),
    });
    session.respond(response(2));
    tokio::spawn(async move { session.write(stream, to).await });
    let frame = from.recv().await.unwrap().frame;
    let [first, second] = &frame.responses[..] else {
        panic!("{} responses", frame.responses.len());
    };
    match &first.body {
        Some(Body::Error(error)) => assert_eq!(error.code(), ErrorCode::Internal),
        other => panic!("{other:?}"),
    }
    assert_eq!(*second, response(2));
}

#[tokio::test]
async fn a_read_waits_while_the_gateway_takes_no_answers_and_the_link_stays() {
    let session = session();
    let (stream, _) = session.attach(0).unwrap();
    let (to, mut from) = mpsc::channel(8);
    let answer = |id| Response {
        id,
        body: Some(Body::History(HistoryResult {
            events: vec![vec![0; 1024 * 1024].into()],
            ..HistoryResult::default()
        })),
    };
    let count = 200; // far more than a session may hold
    let reads = (0..count).map(|id| {
        let session = session.clone();
        let turn = session.queue_read().unwrap();
        async move {
            let _running = turn.begin().await;
            session.respond(answer(id));
        }
    });
    let reading = tokio::spawn(futures::future::join_all(reads.collect::<Vec<_>>()));
    tokio::spawn({
        let session = session.clone();
        async move { session.write(stream, to).await }
    });
    let mut answered = 0;
    while answered < count as usize {
        let frame = from.recv().await.unwrap().frame;
        answered += frame.responses.len();
        assert!(session.inner.lock().held() < HELD_BYTES_MAX);
        session.acknowledge(frame.number);
    }
    reading.await.unwrap();
    assert!(!session.is_closed());
}

#[test]
fn repeated_frames_of_the_gateway_are_told_apart() {
    let session = session();
    let arrived = [1, 2, 2, 1, 4, 3].map(|number| session.receive(number));
    use Arrived::{Again, Early, Next};
    assert_eq!(arrived, [Next, Next, Again, Again, Early, Next]);
}

#[tokio::test]
async fn a_link_that_is_open_and_silent_shows_that_nobody_is_heard() {
    let session = session();
    let (stream, _) = session.attach(0).unwrap();
    let (to, mut from) = mpsc::channel(8);
    tokio::spawn({
        let session = session.clone();
        async move { session.write(stream, to).await }
    });
    // Idle, and there: it acknowledges whatever comes.
    for number in 1..=2 {
        let asked = from.recv().await.unwrap().frame;
        assert_eq!(asked.number, number);
        assert!(asked.responses.is_empty() && asked.publishes.is_empty());
        session.acknowledge(number);
        assert_eq!(session.state().waiting, Duration::ZERO);
    }
    // Not there any more, with its stream as open as before.
    let silent = Duration::from_secs(2);
    let shown = async {
        while session.state().waiting < silent {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(silent * 10, shown).await.unwrap();
    assert!(session.state().connected);
    assert_eq!(from.recv().await.unwrap().frame.number, 3);
    assert!(from.try_recv().is_err(), "it is asked once");
    session.acknowledge(3);
    assert_eq!(session.state().waiting, Duration::ZERO);
}
