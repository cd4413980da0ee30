//! What becomes of packets between nodes.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::seq::IteratorRandom;
use tokio::net::UdpSocket;

/// From and to, by node id.
pub type Way = (u64, u64);

/// Packets of one way that wait at most; what comes on top is lost.
const JAMMED_MAX: usize = 10_000;
/// Packets of one way that may come again.
const REMEMBERED_MAX: usize = 64;

/// What happens to packets on every way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disturbance {
    /// Of a hundred packets, so many are lost, come twice, come with a bit that is wrong, or bring an old one with them.
    pub lost_percent: u8,
    pub doubled_percent: u8,
    pub damaged_percent: u8,
    pub replayed_percent: u8,
    /// Each packet waits at least and at most so long: where these differ, packets overtake each other.
    pub delay_min: Duration,
    pub delay_max: Duration,
}

/// What has happened to packets so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Struck {
    pub passed: u64,
    pub lost: u64,
    pub doubled: u64,
    pub damaged: u64,
    pub replayed: u64,
    pub delayed: u64,
    /// Sent on before one that had come earlier.
    pub overtook: u64,
}

/// A packet that is to be sent on.
pub(super) struct Copy {
    pub(super) after: Duration,
    /// Which one of its way it is; an old one that comes again has none.
    pub(super) number: Option<u64>,
    /// None: as it came.
    pub(super) packet: Option<Vec<u8>>,
}

struct Jammed {
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    packet: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Weather {
    /// How often each way is cut.
    cut: HashMap<Way, u32>,
    jammed: HashMap<Way, Vec<Jammed>>,
    stopped: HashMap<Way, u64>,
    pub(super) disturbance: Disturbance,
    pub(super) struck: Struck,
    /// By way: the number of the packet that came last, and of the last one that was sent on.
    numbers: HashMap<Way, (u64, u64)>,
    remembered: HashMap<Way, VecDeque<Vec<u8>>>,
}

impl Weather {
    pub(super) fn cut(&mut self, way: Way) {
        *self.cut.entry(way).or_default() += 1;
    }

    pub(super) fn mend(&mut self, way: Way) {
        if let Some(times) = self.cut.get_mut(&way) {
            *times -= 1;
        }
        self.cut.retain(|_, times| *times > 0);
    }

    pub(super) fn jam(&mut self, way: Way) {
        self.jammed.entry(way).or_default();
    }

    pub(super) fn release(&mut self, way: Way) {
        for Jammed { socket, to, packet } in self.jammed.remove(&way).unwrap_or_default() {
            // Where there is no room for it, it is lost.
            let _ = socket.try_send_to(&packet, to);
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.disturbance = Disturbance::default();
        let jammed: Vec<Way> = self.jammed.keys().copied().collect();
        jammed.into_iter().for_each(|way| self.release(way));
    }

    pub(super) fn stopped(&self, ways: &[Way]) -> u64 {
        ways.iter().filter_map(|way| self.stopped.get(way)).sum()
    }

    /// What is to be sent on for a packet that came: nothing if it is lost or has to wait.
    #[allow(
        clippy::disallowed_methods,
        reason = "the order of packets is no run's twice, so neither is their loss"
    )]
    pub(super) fn fate(
        &mut self,
        way: Way,
        packet: &[u8],
        socket: &Arc<UdpSocket>,
        to: SocketAddr,
    ) -> Vec<Copy> {
        let (came, _) = self.numbers.entry(way).or_default();
        *came += 1;
        let number = *came;
        if self.cut.contains_key(&way) {
            *self.stopped.entry(way).or_default() += 1;
            return Vec::new();
        }
        if let Some(jammed) = self.jammed.get_mut(&way) {
            *self.stopped.entry(way).or_default() += 1;
            if jammed.len() < JAMMED_MAX {
                let (socket, packet) = (Arc::clone(socket), packet.to_vec());
                jammed.push(Jammed { socket, to, packet });
            }
            return Vec::new();
        }
        self.disturbed(way, number, packet, &mut rand::rng())
    }

    fn disturbed(&mut self, way: Way, number: u64, packet: &[u8], rng: &mut impl Rng) -> Vec<Copy> {
        let does = self.disturbance;
        let struck = &mut self.struck;
        let mut happens = |percent: u8, times: &mut u64| {
            let it_does = rng.random_range(0..100) < percent;
            *times += u64::from(it_does);
            it_does
        };
        if happens(does.lost_percent, &mut struck.lost) {
            return Vec::new();
        }
        let is_doubled = happens(does.doubled_percent, &mut struck.doubled);
        let is_damaged = happens(does.damaged_percent, &mut struck.damaged);
        let brings_another = rng.random_range(0..100) < does.replayed_percent;
        let damaged = is_damaged.then(|| with_a_wrong_bit(packet, rng));
        let mut packets = vec![(Some(number), damaged)];
        if is_doubled {
            packets.push((Some(number), None));
        }
        if does.replayed_percent > 0 {
            let remembered = self.remembered.entry(way).or_default();
            let old = remembered.iter().choose(rng).filter(|_| brings_another);
            if let Some(old) = old {
                struck.replayed += 1;
                packets.push((None, Some(old.clone())));
            }
            remembered.push_back(packet.to_vec());
            if remembered.len() > REMEMBERED_MAX {
                remembered.pop_front();
            }
        }
        let spread = does.delay_max.saturating_sub(does.delay_min);
        struck.delayed += u64::from(!does.delay_max.is_zero());
        let copies = packets.into_iter().map(|(number, packet)| Copy {
            after: does.delay_min + spread.mul_f64(rng.random_range(0.0..1.0)),
            number,
            packet,
        });
        copies.collect()
    }

    pub(super) fn sent_on(&mut self, way: Way, number: Option<u64>) {
        self.struck.passed += 1;
        let Some(number) = number else { return };
        let (_, last) = self.numbers.entry(way).or_default();
        if number < *last {
            self.struck.overtook += 1;
        }
        *last = number.max(*last);
    }
}

fn with_a_wrong_bit(packet: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if !packet.is_empty() {
        let at = rng.random_range(0..packet.len());
        packet[at] ^= 1 << rng.random_range(0..8);
    }
    packet
}
