//! A node on the command line.

use std::str::FromStr;

use parlance_proto::admin::v1::NodeSpec;

/// `ID=RAFT_ADDR,LINK_ADDR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpecArg {
    pub node_id: u64,
    pub raft_address: String,
    pub link_address: String,
}

impl NodeSpecArg {
    pub fn to_spec(&self) -> NodeSpec {
        NodeSpec {
            node_id: self.node_id,
            raft_address: self.raft_address.clone(),
            link_address: self.link_address.clone(),
        }
    }
}

impl FromStr for NodeSpecArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "{text:?} is not a node: ID=RAFT_HOST:PORT,LINK_HOST:PORT, as in 1=10.0.0.1:7200,10.0.0.1:7100"
            )
        };
        let (id, addresses) = text.split_once('=').ok_or_else(refused)?;
        let (raft, link) = addresses.split_once(',').ok_or_else(refused)?;
        let node_id: u64 = id.trim().parse().map_err(|_| refused())?;
        let address = |a: &str| {
            let a = a.trim();
            let (host, port) = a.rsplit_once(':')?;
            (!host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0)).then(|| a.to_owned())
        };
        let (raft_address, link_address) = (
            address(raft).ok_or_else(refused)?,
            address(link).ok_or_else(refused)?,
        );
        if node_id == 0 {
            return Err("a node's id is above 0".to_owned());
        }
        Ok(Self {
            node_id,
            raft_address,
            link_address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_an_id_and_two_addresses() {
        let node: NodeSpecArg = "1=10.0.0.1:7200,node-1.example:7100".parse().unwrap();
        assert_eq!(
            (node.node_id, node.raft_address.as_str()),
            (1, "10.0.0.1:7200")
        );
        assert_eq!(node.link_address, "node-1.example:7100");
        assert!("4=[::1]:1,[::1]:2".parse::<NodeSpecArg>().is_ok());
        for text in [
            "",
            "1",
            "1=a:1",
            "0=a:1,b:2",
            "x=a:1,b:2",
            "1=a,b:2",
            "1=a:1,:2",
            "1=a:1,b:0",
            "1=a:1,b:99999",
        ] {
            assert!(text.parse::<NodeSpecArg>().is_err(), "{text:?}");
        }
    }
}
