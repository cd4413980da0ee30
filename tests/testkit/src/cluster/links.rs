//! The network between gateways and nodes, in our hands: each node is reached through a TCP relay of ours, which can hold what
//! comes, slow it down or damage it, in either direction, for one gateway or for all.
//!
//! What is held is delivered when the way is open again, or is gone with its connection: [`Held::Frozen`] and [`Held::Cut`].

mod owner;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use owner::owner_of;

/// Bytes on their way in one direction of one connection.
const BUFFER_BYTES: usize = 16 * 1024;
/// Less than a link needs under load.
const SLOW_BYTES_PER_S: u32 = 64 * 1024;

/// Which connections: those of a gateway, by its process id; none is all of them.
pub type Gateway = Option<u32>;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    ToNode,
    ToGateway,
}

/// What becomes of bytes on a way that is not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// They wait, and all come at once.
    Frozen,
    /// They are lost, and with them the connection, as soon as the way is open again.
    Cut,
    /// They come slowly, [`SLOW_BYTES_PER_S`] of them.
    Slow,
    /// One bit of them is another one.
    Damaged,
}

/// A rule: the node, whose connections, which direction.
pub type Rule = (u64, Gateway, Direction);

#[derive(Default)]
struct Rules {
    held: HashMap<Rule, Held>,
    /// Bytes that came on ways that a rule was on.
    struck: HashMap<Rule, u64>,
}

impl Rules {
    fn of(&self, node_id: u64, gateway: Gateway, direction: Direction) -> Option<(Rule, Held)> {
        let held = |whose| {
            let rule = (node_id, whose, direction);
            Some((rule, *self.held.get(&rule)?))
        };
        held(None).or_else(|| held(gateway).filter(|_| gateway.is_some()))
    }
}

/// Relays before nodes; gone when dropped.
pub struct Links {
    rules: Arc<Mutex<Rules>>,
    changed: watch::Sender<()>,
    relays: Vec<JoinHandle<()>>,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            rules: Arc::default(),
            changed: watch::Sender::new(()),
            relays: Vec::new(),
        }
    }
}

impl Links {
    /// From now on a node, which listens at `real`, is reached at `advertised`.
    pub fn add(&mut self, node_id: u64, advertised: SocketAddr, real: SocketAddr) -> Result<()> {
        let front = std::net::TcpListener::bind(advertised)
            .with_context(|| format!("relay at {advertised}"))?;
        front.set_nonblocking(true)?;
        let relay = Relay {
            node_id,
            real,
            rules: Arc::clone(&self.rules),
            changed: self.changed.clone(),
        };
        let front = TcpListener::from_std(front)?;
        self.relays.push(tokio::spawn(relay.run(front)));
        Ok(())
    }

    /// Closes a way, or makes it a bad one.
    pub fn hold(&self, node_id: u64, gateway: Gateway, direction: Direction, held: Held) {
        let rule = (node_id, gateway, direction);
        self.rules.lock().held.insert(rule, held);
        self.changed.send_replace(());
    }

    /// Opens it again.
    pub fn open(&self, node_id: u64, gateway: Gateway, direction: Direction) {
        self.rules
            .lock()
            .held
            .remove(&(node_id, gateway, direction));
        self.changed.send_replace(());
    }

    /// Opens all.
    pub fn heal(&self) {
        self.rules.lock().held.clear();
        self.changed.send_replace(());
    }

    /// Bytes that came on ways that these rules were on, so far.
    pub fn struck(&self, rules: &[Rule]) -> u64 {
        let struck = &self.rules.lock().struck;
        rules.iter().filter_map(|rule| struck.get(rule)).sum()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.relays.iter().for_each(JoinHandle::abort);
    }
}

#[derive(Clone)]
struct Relay {
    node_id: u64,
    real: SocketAddr,
    rules: Arc<Mutex<Rules>>,
    changed: watch::Sender<()>,
}

impl Relay {
    async fn run(self, front: TcpListener) {
        // Dropped with the relay, and with it all connections.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = front.accept() => if let Ok((stream, peer)) = accepted {
                    connections.spawn(self.clone().carry(stream, peer));
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// Carries one connection until one end closes it.
    async fn carry(self, client: TcpStream, peer: SocketAddr) {
        let gateway = owner_of(peer);
        let Ok(node) = TcpStream::connect(self.real).await else {
            return; // the node is not there: neither is its relay
        };
        let _ = (client.set_nodelay(true), node.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_node, to_node) = node.into_split();
        tokio::select! {
            () = self.copy(from_client, to_node, gateway, Direction::ToNode) => {}
            () = self.copy(from_node, to_client, gateway, Direction::ToGateway) => {}
        }
    }

    async fn copy(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        gateway: Gateway,
        direction: Direction,
    ) {
        let mut changed = self.changed.subscribe();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut lost = false;
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let mut struck = false;
            loop {
                let held = {
                    let mut rules = self.rules.lock();
                    let held = rules.of(self.node_id, gateway, direction);
                    if let Some((rule, _)) = held.filter(|_| !struck) {
                        *rules.struck.entry(rule).or_default() += length as u64;
                        struck = true;
                    }
                    held
                };
                match held.map(|(_, held)| held) {
                    Some(Held::Frozen) => {}
                    Some(Held::Cut) => lost = true,
                    // Bytes are missing: nobody can make sense of what follows.
                    _ if lost => return,
                    Some(Held::Slow) => {
                        let bytes = u32::try_from(length).unwrap_or(u32::MAX);
                        sleep(Duration::from_secs(1) * bytes / SLOW_BYTES_PER_S).await;
                        break;
                    }
                    Some(Held::Damaged) => {
                        buffer[length / 2] ^= 1;
                        break;
                    }
                    None => break,
                }
                if changed.changed().await.is_err() {
                    return;
                }
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const BRIEFLY: Duration = Duration::from_millis(200);

    async fn reads(stream: &mut TcpStream) -> Option<usize> {
        let mut buffer = [0; 64];
        timeout(BRIEFLY, stream.read(&mut buffer)).await.ok()?.ok()
    }

    /// A relay before a node, and both ends of a connection through it.
    async fn connected() -> (Links, TcpStream, TcpStream) {
        let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut links = Links::default();
        links.add(1, free, node.local_addr().unwrap()).unwrap();
        let client = TcpStream::connect(free).await.unwrap();
        let (served, _) = node.accept().await.unwrap();
        (links, client, served)
    }

    #[tokio::test]
    async fn what_is_damaged_has_a_wrong_bit_and_what_is_slow_is_whole() {
        let (links, mut client, mut served) = connected().await;
        let mut said = [0; 5];
        for (held, heard) in [(Held::Damaged, b"hemlo"), (Held::Slow, b"hello")] {
            links.hold(1, None, Direction::ToNode, held);
            client.write_all(b"hello").await.unwrap();
            served.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, heard);
        }
        assert_eq!(links.struck(&[(1, None, Direction::ToNode)]), 10);
    }

    #[tokio::test]
    async fn what_is_frozen_comes_later_and_what_is_cut_ends_its_connection() {
        let (links, mut client, mut served) = connected().await;
        client.write_all(b"hello").await.unwrap();
        assert_eq!(reads(&mut served).await, Some(5));

        // This process has the client's end, so it is "the gateway".
        let us = Some(std::process::id());
        links.hold(1, us, Direction::ToNode, Held::Frozen);
        client.write_all(b"later").await.unwrap();
        assert_eq!(reads(&mut served).await, None);
        served.write_all(b"the other way").await.unwrap();
        assert_eq!(reads(&mut client).await, Some(13));
        links.open(1, us, Direction::ToNode);
        assert_eq!(reads(&mut served).await, Some(5));

        links.hold(1, Some(1), Direction::ToNode, Held::Cut);
        client.write_all(b"another's").await.unwrap();
        assert_eq!(reads(&mut served).await, Some(9));
        links.hold(1, None, Direction::ToGateway, Held::Cut);
        served.write_all(b"lost").await.unwrap();
        assert_eq!(reads(&mut client).await, None);
        links.heal();
        assert_eq!(reads(&mut client).await, Some(0), "closed");
        let rules = [(1, us, Direction::ToNode), (1, None, Direction::ToGateway)];
        assert_eq!(links.struck(&rules), 9);
        assert_eq!(links.struck(&rules[1..]), 4);
    }
}
