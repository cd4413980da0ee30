//! The network between the nodes, in our hands: each node is reached through a relay of ours, which knows by the
//! sender's address who speaks, and does to packets what it is told to.

mod weather;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use weather::{Copy, Weather};
pub use weather::{Disturbance, Struck, Way};

/// No datagram is longer.
const DATAGRAM_BYTES_MAX: usize = 65_536;

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
        self.weather.lock().cut((from, to));
    }

    /// What was cut is whole again, if it was not cut once more.
    pub fn mend(&self, from: u64, to: u64) {
        self.weather.lock().mend((from, to));
    }

    /// Packets from one node to another wait.
    pub fn jam(&self, from: u64, to: u64) {
        self.weather.lock().jam((from, to));
    }

    /// All that waits comes at once.
    pub fn release(&self, from: u64, to: u64) {
        self.weather.lock().release((from, to));
    }

    /// Packets that were lost or held on these ways so far because they are cut or jammed.
    pub fn stopped(&self, ways: &[Way]) -> u64 {
        self.weather.lock().stopped(ways)
    }

    /// What happens to packets on all ways from here on.
    pub fn disturb(&self, disturbance: Disturbance) {
        self.weather.lock().disturbance = disturbance;
    }

    /// All is well again.
    pub fn heal(&self) {
        self.weather.lock().heal();
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

/// Sends a packet on, if the weather lets it.
async fn pass(
    way: Way,
    weather: &Arc<Mutex<Weather>>,
    socket: &Arc<UdpSocket>,
    to: SocketAddr,
    packet: &[u8],
) {
    let copies = weather.lock().fate(way, packet, socket, to);
    for Copy {
        after,
        number,
        packet: other,
    } in copies
    {
        if after.is_zero() {
            weather.lock().sent_on(way, number);
            // Not to be delivered is a packet's fate: the protocol above asks again.
            let _ = socket.send_to(other.as_deref().unwrap_or(packet), to).await;
            continue;
        }
        let packet = other.unwrap_or_else(|| packet.to_vec());
        let (socket, weather) = (Arc::clone(socket), weather.clone());
        tokio::spawn(async move {
            sleep(after).await;
            weather.lock().sent_on(way, number);
            let _ = socket.send_to(&packet, to).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        assert_eq!(network.stopped(&[(1, 2)]), 1);
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
        network.heal();

        network.jam(1, 2);
        one.send_to(b"later", free_too).await.unwrap();
        one.send_to(b"later, too", free_too).await.unwrap();
        assert_eq!(hears(&two).await, None);
        network.release(1, 2);
        assert!(hears(&two).await.is_some() && hears(&two).await.is_some());

        network.disturb(Disturbance {
            damaged_percent: 100,
            replayed_percent: 100,
            ..Disturbance::default()
        });
        one.send_to(b"one", free_too).await.unwrap();
        let (said, _) = hears(&two).await.unwrap();
        assert!(said.len() == 3 && said != b"one", "{said:?}");
        one.send_to(b"another", free_too).await.unwrap();
        let said = [hears(&two).await, hears(&two).await];
        let said: Vec<_> = said.into_iter().flatten().map(|(said, _)| said).collect();
        assert!(said.contains(&b"one".to_vec()), "{said:?}");
    }
}
