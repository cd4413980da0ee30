//! A queue is filled and drained, and gives back what it took.

use super::*;

fn answer(bytes: usize) -> Item {
    Item::Encoded(vec![0; bytes].into())
}

fn event(memory: &Arc<Budget>, bytes: usize) -> Item {
    Item::Push(Arc::new(Push::new(vec![0; bytes].into(), memory)))
}

fn kinds(queue: &Outbound) -> String {
    let mut kinds = String::new();
    queue.drain(|item| {
        kinds.push(match item {
            Item::Encoded(_) => 'a',
            Item::Push(push) if push.is_notice() => 'n',
            Item::Push(_) => 'e',
            Item::Resync(_) => 'r',
        });
        true
    });
    kinds
}

#[test]
fn a_slow_reader_gets_one_resync_in_the_place_of_what_it_can_fetch() {
    let memory = Budget::new(1 << 20);
    let queue = Outbound::new(100, 10, &memory);
    assert!(queue.push(event(&memory, 200)), "one item always fits");
    assert!(queue.push(answer(1)), "an answer is never left out");
    assert!(!queue.push(event(&memory, 1)), "fetched after the resync");
    let notice = Push::notice(server_frame::Body::Resync(ResyncNotice::default()));
    assert!(queue.push(Item::Push(Arc::new(notice))));
    assert!(!queue.push(resync()), "there is one");
    assert_eq!(queue.closed(), None);
    assert_eq!(kinds(&queue), "ran");
    assert!(queue.push(event(&memory, 1)), "after the resync it goes on");
    assert!(queue.push(event(&memory, 1)));
    assert_eq!(kinds(&queue), "ee");
    assert_eq!((queue.bytes(), memory.used()), (0, 0));
}

#[test]
fn items_are_bounded_too_and_drained_memory_goes_back() {
    let memory = Budget::new(1 << 20);
    let queue = Outbound::new(1 << 20, 100, &memory);
    for _ in 0..100 {
        assert!(queue.push(event(&memory, 1)));
    }
    let mut taken = 0;
    queue.drain(|_| {
        taken += 1;
        taken < 30
    });
    assert_eq!((taken, queue.bytes()), (30, 70));
    queue.drain(|_| true);
    assert_eq!(queue.inner.lock().items.capacity(), 0);
    for _ in 0..100 {
        assert!(queue.push(event(&memory, 1)));
    }
    assert!(!queue.push(event(&memory, 1)));
    assert_eq!(kinds(&queue), "r");
    assert_eq!(memory.used(), 0);
}

#[tokio::test]
async fn answers_to_reads_wait_for_room_and_never_close_the_queue() {
    let memory = Budget::new(1 << 20);
    let queue = Arc::new(Outbound::new(65_536, 100, &memory));
    let answers = (0..50).map(|_| queue.push_when_room(answer(60_000)));
    let waiting = futures::future::join_all(answers);
    let reading = async {
        let mut read = 0;
        while read < 50 {
            queue.changed().await;
            assert!(queue.bytes() <= 65_536, "{} bytes", queue.bytes());
            queue.drain(|_| {
                read += 1;
                true
            });
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(waiting, reading);
    assert_eq!((queue.closed(), memory.used()), (None, 0));
    queue.push_when_room(answer(60_000)).await;
    let waits = queue.push_when_room(answer(60_000));
    let closes = async { queue.close(CloseReason::CutOff) };
    tokio::join!(waits, closes);
    assert_eq!(memory.used(), 0);
}
