//! Who has the other end of a connection: told by the kernel's tables.

use std::fs;
use std::net::SocketAddr;

/// The process that has the other end of a connection from this machine.
pub(super) fn owner_of(peer: SocketAddr) -> Option<u32> {
    let inode = inode_of(peer)?;
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue; // somebody else's, or gone
        };
        let mut targets = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| target.as_os_str() == wanted.as_str()) {
            return Some(pid);
        }
    }
    None
}

/// Of the socket whose own address this is, by the kernel's table of connections.
fn inode_of(address: SocketAddr) -> Option<u64> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let ip = u32::from_ne_bytes(address.ip().octets());
    let wanted = format!("{ip:08X}:{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().skip(1).find_map(|line| {
        let mut cells = line.split_whitespace();
        (cells.nth(1)? == wanted).then(|| cells.nth(7)?.parse().ok())?
    })
}
