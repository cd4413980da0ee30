//! The protocols of Parlance, and what both ends of one must agree on.
//!
//! The messages are generated from the `.proto` files beside this crate; `proto/README.md` says who speaks
//! which package to whom.

pub mod error;
pub mod event;
pub mod ids;
pub mod limits;
mod map;
mod secret;
pub mod slot;
pub mod tls;
pub mod version;
pub mod visible;

/// Errors that every protocol speaks.
pub mod common {
    #[allow(missing_docs, clippy::all, clippy::too_many_lines)]
    pub mod v1 {
        tonic::include_proto!("parlance.common.v1");
        include!(concat!(env!("OUT_DIR"), "/parlance.common.v1.serde.rs"));
    }
}

/// Client and gateway.
pub mod client {
    #[allow(missing_docs, clippy::all, clippy::too_many_lines)]
    pub mod v1 {
        tonic::include_proto!("parlance.client.v1");
        include!(concat!(env!("OUT_DIR"), "/parlance.client.v1.serde.rs"));
    }
}

/// Gateway and node.
pub mod link {
    #[allow(missing_docs, clippy::all, clippy::too_many_lines)]
    pub mod v1 {
        tonic::include_proto!("parlance.link.v1");
    }
}

/// Node and node.
pub mod raft {
    #[allow(missing_docs, clippy::all, clippy::too_many_lines)]
    pub mod v1 {
        tonic::include_proto!("parlance.raft.v1");
    }
}

/// Operator and node.
pub mod admin {
    #[allow(missing_docs, clippy::all, clippy::too_many_lines)]
    pub mod v1 {
        tonic::include_proto!("parlance.admin.v1");
    }
}

/// What is on disk and in the Raft log.
pub mod store {
    #[allow(missing_docs, clippy::all, clippy::too_many_lines)]
    pub mod v1 {
        tonic::include_proto!("parlance.store.v1");
    }
}
