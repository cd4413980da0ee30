//! The system's limit of open files: raised as far as it lets us, and compared with what a process needs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::exit::not_possible;

/// Files of a gateway beside its connections: links, listeners, logs, and what comes and goes.
const GATEWAY_FILES: u64 = 256;
/// With less a gateway could hardly serve anybody.
const GATEWAY_LEAST: u64 = 512;
/// With less a node cannot keep its tables open.
const NODE_LEAST: u64 = 1024;
/// What a node with some hundred GiB of data and some gateways may need.
const NODE_ENOUGH: u64 = 16_384;

/// Raises the limit to the most that this process may have, and answers what it is now. Processes that it starts inherit it.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    now.unwrap_or(u64::MAX)
}

/// The connections that a gateway can have, of those that it wants.
pub fn for_gateway(connections_max: usize) -> anyhow::Result<usize> {
    let limit = raise();
    let possible = gateway_connections(limit)?;
    if possible < connections_max {
        tracing::warn!(
            open_files = limit,
            wanted = connections_max,
            connections_max = possible,
            "limits.connections_max is lowered: raise the limit of open files (ulimit -n, LimitNOFILE=)"
        );
    }
    Ok(connections_max.min(possible))
}

fn gateway_connections(limit: u64) -> anyhow::Result<usize> {
    if limit < GATEWAY_LEAST {
        return Err(not_possible(format!(
            "this process may have {limit} open files, a gateway needs {GATEWAY_LEAST} at least: raise the limit (ulimit -n, LimitNOFILE=)"
        )));
    }
    Ok(usize::try_from(limit - GATEWAY_FILES).unwrap_or(usize::MAX))
}

/// Whether a node can have enough.
pub fn for_node() -> anyhow::Result<()> {
    let limit = raise();
    if limit < NODE_LEAST {
        return Err(not_possible(format!(
            "this process may have {limit} open files, a node needs {NODE_LEAST} at least: raise the limit (ulimit -n, LimitNOFILE=)"
        )));
    }
    if limit < NODE_ENOUGH {
        tracing::warn!(
            open_files = limit,
            enough = NODE_ENOUGH,
            "a node with much data may run out of open files: raise the limit (ulimit -n, LimitNOFILE=)"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_has_as_many_connections_as_files_allow() {
        assert_eq!(gateway_connections(10_256).unwrap(), 10_000);
        assert!(gateway_connections(511).is_err());
        assert_eq!(
            gateway_connections(u64::MAX).unwrap(),
            usize::MAX - GATEWAY_FILES as usize
        );
    }
}
