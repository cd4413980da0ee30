//! The network between the nodes, in our hands: each node is reached through a relay of ours, which knows by the
//! sender's address who speaks, and drops, doubles, delays and turns round what it is told to.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// No datagram is longer.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// From and to, by node id.
type Way = (u64, u64);

/// What happens to packets on every way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disturbance {
    /// Of a hundred packets, so many are lost, and so many come twice.
    pub lost_percent: u8,
    pub doubled_percent: u8,
    /// Each packet waits at least and at most so long: where these differ, packets overtake each other.
    pub delay_min: Duration,
    pub delay_max: Duration,
}

/// What has happened to packets so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Struck {
    pub passed: u64,
    /// On a way that was cut.
    pub cut: u64,
    pub lost: u64,
    pub doubled: u64,
    pub delayed: u64,
    /// Sent on before one that had come earlier.
    pub overtook: u64,
}

#[derive(Default)]
struct Weather {
    cut: HashSet<Way>,
    disturbance: Disturbance,
    struck: Struck,
    /// By way: the number of the packet that came last, and of the last one that was sent on.
    numbers: HashMap<Way, (u64, u64)>,
}

/// Relays between nodes; gone when dropped.
#[derive(Default)]
pub struct Network {
    weather: Arc<Mutex<Weather>>,
    /// Which node sends from which address.
    senders: Arc<Mutex<HashMap<SocketAddr, u64>>>,
    relays: Vec<JoinHandle<()>>,
}

impl Network {
    /// From now on a node, which listens at `real`, is reached at `advertised`.
    pub fn add(&mut self, node_id: u64, advertised: SocketAddr, real: SocketAddr) -> Result<()> {
        self.senders.lock().insert(real, node_id);
        let front = std::net::UdpSocket::bind(advertised)
            .with_context(|| format!("relay at {advertised}"))?;
        front.set_nonblocking(true)?;
        let relay = Relay {
            node_id,
            real,
            front: Arc::new(UdpSocket::from_std(front)?),
            weather: Arc::clone(&self.weather),
            senders: Arc::clone(&self.senders),
        };
        self.relays.push(tokio::spawn(relay.run()));
        Ok(())
    }

    /// Nothing gets through from one node to another.
    pub fn cut(&self, from: u64, to: u64) {
        self.weather.lock().cut.insert((from, to));
    }

    /// What was cut is whole again.
    pub fn mend(&self, from: u64, to: u64) {
        self.weather.lock().cut.remove(&(from, to));
    }

    /// What happens to packets on all ways from here on.
    pub fn disturb(&self, disturbance: Disturbance) {
        self.weather.lock().disturbance = disturbance;
    }

    /// All is well again.
    pub fn heal(&self) {
        let mut weather = self.weather.lock();
        weather.cut.clear();
        weather.disturbance = Disturbance::default();
    }

    /// What has happened so far.
    pub fn struck(&self) -> Struck {
        self.weather.lock().struck
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.relays.iter().for_each(JoinHandle::abort);
    }
}

/// The way to one node.
struct Relay {
    node_id: u64,
    real: SocketAddr,
    front: Arc<UdpSocket>,
    weather: Arc<Mutex<Weather>>,
    senders: Arc<Mutex<HashMap<SocketAddr, u64>>>,
}

impl Relay {
    async fn run(self) {
        // One socket for each sender, so that the node's answers find their way back.
        let mut backs = HashMap::<SocketAddr, (u64, Arc<UdpSocket>, AbortOnDrop)>::new();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            // An error is the echo of a packet that a dead node did not take.
            let Ok((length, sender)) = self.front.recv_from(&mut buffer).await else {
                continue;
            };
            let Some(from) = self.senders.lock().get(&sender).copied() else {
                continue;
            };
            if let Entry::Vacant(place) = backs.entry(sender) {
                let Ok(back) = self.back(sender, from).await else {
                    continue;
                };
                place.insert(back);
            }
            if let Some((from, back, _)) = backs.get(&sender) {
                pass(
                    (*from, self.node_id),
                    &self.weather,
                    back,
                    self.real,
                    &buffer[..length],
                )
                .await;
            }
        }
    }

    async fn back(
        &self,
        sender: SocketAddr,
        from: u64,
    ) -> Result<(u64, Arc<UdpSocket>, AbortOnDrop)> {
        let back = Arc::new(UdpSocket::bind((self.real.ip(), 0)).await?);
        let (front, socket) = (Arc::clone(&self.front), Arc::clone(&back));
        let (weather, way) = (Arc::clone(&self.weather), (self.node_id, from));
        let answers = tokio::spawn(async move {
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            loop {
                if let Ok((length, _)) = socket.recv_from(&mut buffer).await {
                    pass(way, &weather, &front, sender, &buffer[..length]).await;
                }
            }
        });
        Ok((from, back, AbortOnDrop(answers)))
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Weather {
    /// The times after which a packet is to be sent on: none if it is lost, two if it is doubled; and its number.
    #[allow(
        clippy::disallowed_methods,
        reason = "the order of packets is no run's twice, so neither is their loss"
    )]
    fn fate(&mut self, way: Way) -> (Vec<Duration>, u64) {
        let (came, _) = self.numbers.entry(way).or_default();
        *came += 1;
        let number = *came;
        let Disturbance {
            lost_percent,
            doubled_percent,
            delay_min,
            delay_max,
        } = self.disturbance;
        if self.cut.contains(&way) {
            self.struck.cut += 1;
            return (Vec::new(), number);
        }
        if rand::random_range(0..100) < lost_percent {
            self.struck.lost += 1;
            return (Vec::new(), number);
        }
        let copies = if rand::random_range(0..100) < doubled_percent {
            self.struck.doubled += 1;
            2
        } else {
            1
        };
        let spread = delay_max.saturating_sub(delay_min);
        let delays = (0..copies).map(|_| delay_min + spread.mul_f64(rand::random_range(0.0..1.0)));
        let delays: Vec<Duration> = delays.collect();
        self.struck.delayed += u64::from(delays.iter().any(|delay| !delay.is_zero()));
        (delays, number)
    }

    fn sent_on(&mut self, way: Way, number: u64) {
        self.struck.passed += 1;
        let (_, last) = self.numbers.entry(way).or_default();
        if number < *last {
            self.struck.overtook += 1;
        }
        *last = number.max(*last);
    }
}

/// Sends a packet on, if the weather lets it.
async fn pass(
    way: Way,
    weather: &Arc<Mutex<Weather>>,
    socket: &Arc<UdpSocket>,
    to: SocketAddr,
    packet: &[u8],
) {
    let (delays, number) = weather.lock().fate(way);
    for delay in delays {
        if delay.is_zero() {
            weather.lock().sent_on(way, number);
            // Not to be delivered is a packet's fate: the protocol above asks again.
            let _ = socket.send_to(packet, to).await;
            continue;
        }
        let (socket, packet, weather) = (Arc::clone(socket), packet.to_vec(), weather.clone());
        tokio::spawn(async move {
            sleep(delay).await;
            weather.lock().sent_on(way, number);
            let _ = socket.send_to(&packet, to).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hears(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = [0; 64];
        let heard =
            tokio::time::timeout(Duration::from_millis(300), socket.recv_from(&mut buffer)).await;
        heard
            .ok()?
            .ok()
            .map(|(length, from)| (buffer[..length].to_vec(), from))
    }

    #[tokio::test]
    async fn packets_and_answers_pass_until_a_way_is_cut() {
        let [one, two] = [
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        ];
        let free = std::net::UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let free_too = std::net::UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut network = Network::default();
        network.add(1, free, one.local_addr().unwrap()).unwrap();
        network.add(2, free_too, two.local_addr().unwrap()).unwrap();

        one.send_to(b"hello", free_too).await.unwrap();
        let (said, back) = hears(&two).await.unwrap();
        assert_eq!(said, b"hello");
        two.send_to(b"yes?", back).await.unwrap();
        assert_eq!(hears(&one).await.unwrap(), (b"yes?".to_vec(), free_too));

        network.cut(1, 2);
        one.send_to(b"still there?", free_too).await.unwrap();
        assert_eq!(hears(&two).await, None);
        assert_eq!(network.struck().cut, 1);
        two.send_to(b"the other way is open", back).await.unwrap();
        assert!(hears(&one).await.is_some());
        network.heal();
        one.send_to(b"again", free_too).await.unwrap();
        assert!(hears(&two).await.is_some());

        network.disturb(Disturbance {
            doubled_percent: 100,
            delay_max: Duration::from_millis(20),
            ..Disturbance::default()
        });
        one.send_to(b"twice", free_too).await.unwrap();
        assert!(hears(&two).await.is_some() && hears(&two).await.is_some());
        network.disturb(Disturbance {
            lost_percent: 100,
            ..Disturbance::default()
        });
        one.send_to(b"lost", free_too).await.unwrap();
        assert_eq!(hears(&two).await, None);
        let struck = network.struck();
        assert_eq!((struck.doubled, struck.delayed, struck.lost), (1, 1, 1));
    }
}
