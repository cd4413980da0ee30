//! Frames sent and not yet acknowledged, so that a broken link can resume. Bounded: what falls out makes a
//! resume from before it impossible, nothing else.

use std::collections::VecDeque;
use std::sync::Arc;

use parlance_proto::link::v1::GatewayFrame;
use prost::Message as _;
use tokio::time::Instant;

use crate::bounds::{Budget, Charge};

/// Requests kept for a resume.
const REQUESTS_MAX: usize = 16_384;
/// Their bytes; one frame always fits.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Numbers outgoing frames and keeps the unacknowledged ones.
#[derive(Debug)]
pub struct Replay {
    frames: VecDeque<Kept>,
    requests: usize,
    charge: Charge,
    last: u64,
}

/// A frame until it is acknowledged.
#[derive(Debug)]
struct Kept {
    frame: GatewayFrame,
    bytes: usize,
    since: Instant,
}

impl Replay {
    /// Nothing sent yet. What is kept counts in `memory`, which all links share.
    pub fn new(memory: &Arc<Budget>) -> Self {
        Self {
            frames: VecDeque::new(),
            requests: 0,
            charge: memory.take(0),
            last: 0,
        }
    }

    /// Since when the oldest frame that is kept has waited.
    pub fn oldest(&self) -> Option<Instant> {
        self.frames.front().map(|kept| kept.since)
    }

    /// Gives the frame the next number and keeps a copy.
    pub fn number(&mut self, frame: &mut GatewayFrame) {
        self.last += 1;
        frame.number = self.last;
        self.requests += frame.requests.len();
        let bytes = frame.encoded_len();
        self.charge.add(bytes);
        self.frames.push_back(Kept {
            frame: frame.clone(),
            bytes,
            since: Instant::now(),
        });
        while self.requests > REQUESTS_MAX || (self.is_too_large() && self.frames.len() > 1) {
            self.drop_first();
        }
    }

    /// The peer has everything up to `number`.
    pub fn acknowledge(&mut self, number: u64) {
        while (self.frames.front()).is_some_and(|kept| kept.frame.number <= number) {
            self.drop_first();
        }
    }

    /// What follows `received`; none if that is no longer here or was never sent.
    pub fn after(&mut self, received: u64) -> Option<Vec<GatewayFrame>> {
        self.acknowledge(received);
        let first = self.frames.front();
        let first = first.map_or(self.last + 1, |kept| kept.frame.number);
        (received <= self.last && first == received + 1)
            .then(|| self.frames.iter().map(|kept| kept.frame.clone()).collect())
    }

    fn is_too_large(&self) -> bool {
        self.charge.bytes() > BYTES_MAX || self.charge.is_beyond_budget()
    }

    fn drop_first(&mut self) {
        if let Some(kept) = self.frames.pop_front() {
            self.charge.give_back(kept.bytes);
            self.requests -= kept.frame.requests.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn frame(requests: usize) -> GatewayFrame {
        GatewayFrame {
            requests: vec![Bytes::new(); requests],
            ..GatewayFrame::default()
        }
    }

    #[test]
    fn unacknowledged_frames_follow_a_resume_in_order() {
        let mut replay = Replay::new(&Budget::new(1 << 20));
        for _ in 0..5 {
            replay.number(&mut frame(1));
        }
        replay.acknowledge(2);
        let numbers =
            |frames: Vec<GatewayFrame>| frames.iter().map(|f| f.number).collect::<Vec<_>>();
        assert_eq!(replay.after(3).map(numbers), Some(vec![4, 5]));
        assert_eq!(replay.after(2), None, "gone after an acknowledgement");
        assert!(replay.oldest().is_some());
        assert_eq!(replay.after(5).map(numbers), Some(vec![]));
        assert_eq!(replay.oldest(), None, "all is acknowledged");
        assert_eq!(replay.after(6), None, "never sent");
    }

    #[test]
    fn all_links_share_the_bytes_that_are_kept() {
        let large = || GatewayFrame {
            requests: vec![vec![0; 400].into()],
            ..GatewayFrame::default()
        };
        let memory = Budget::new(1000);
        let (mut one, mut other) = (Replay::new(&memory), Replay::new(&memory));
        (0..2).for_each(|_| one.number(&mut large()));
        (0..3).for_each(|_| other.number(&mut large()));
        assert_eq!(one.after(0).map(|f| f.len()), Some(2));
        assert_eq!(other.after(0), None);
        assert_eq!(other.after(2).map(|f| f.len()), Some(1));
    }

    #[test]
    fn what_falls_out_of_the_bound_cannot_be_resumed() {
        let mut replay = Replay::new(&Budget::new(1 << 20));
        for _ in 0..3 {
            replay.number(&mut frame(REQUESTS_MAX / 2));
        }
        assert_eq!(replay.after(0), None);
        assert_eq!(replay.after(1).map(|f| f.len()), Some(2));
    }
}
