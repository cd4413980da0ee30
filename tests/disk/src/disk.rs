//! A disk in memory: files and folders as programs see them, and as they would be after a power cut.
//!
//! As harsh as the rules of POSIX allow: data is on the disk once its file was synced, a name once its folder was.

use std::collections::BTreeMap;
use std::time::SystemTime;

use fuser::Errno;

use crate::content::Content;

/// The number of the root folder.
pub const ROOT: u64 = 1;
/// Bytes that an unlimited disk says it has.
const ROOMY_BYTES: u64 = 1 << 40;

/// Names and the numbers of what they name.
pub type Names = BTreeMap<String, u64>;

/// A file or a folder.
pub enum Body {
    File(Content),
    /// As programs see it, and as it is on the disk.
    Folder {
        now: Names,
        synced: Names,
    },
}

/// A file or a folder, with what is known of it.
pub struct Node {
    pub body: Body,
    pub mode: u16,
    pub changed: SystemTime,
    /// Names as programs see them, and on the disk.
    pub names: u32,
    pub names_synced: u32,
    open: u32,
    /// Where it got its newest name.
    folder: u64,
    name: String,
}

impl Node {
    fn new(body: Body, mode: u16, now: SystemTime) -> Self {
        Self {
            body,
            mode,
            changed: now,
            names: 0,
            names_synced: 0,
            open: 0,
            folder: ROOT,
            name: String::new(),
        }
    }

    /// Bytes of the file; 0 of a folder.
    pub fn length(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.now().length(),
            Body::Folder { .. } => 0,
        }
    }
}

/// The disk.
pub struct Disk {
    pub(crate) nodes: BTreeMap<u64, Node>,
    newest: u64,
    capacity: Option<u64>,
    /// Writes that did not fit.
    pub refused: u64,
    clock: fn() -> SystemTime,
}

impl Disk {
    /// An empty one.
    pub fn new(clock: fn() -> SystemTime) -> Self {
        let mut root = Node::new(folder(), 0o755, clock());
        (root.names, root.names_synced) = (1, 1);
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            newest: ROOT,
            capacity: None,
            refused: 0,
            clock,
        }
    }

    pub fn node(&self, number: u64) -> Result<&Node, Errno> {
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    fn node_mut(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    pub fn names(&self, folder: u64) -> Result<&Names, Errno> {
        match &self.node(folder)?.body {
            Body::Folder { now, .. } => Ok(now),
            Body::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn names_mut(&mut self, folder: u64) -> Result<&mut Names, Errno> {
        match &mut self.node_mut(folder)?.body {
            Body::Folder { now, .. } => Ok(now),
            Body::File(_) => Err(Errno::ENOTDIR),
        }
    }

    /// What a name in a folder names.
    pub fn find(&self, folder: u64, name: &str) -> Result<u64, Errno> {
        self.names(folder)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// The path from the root, without a slash in front.
    pub fn path(&self, mut number: u64) -> String {
        let mut parts = Vec::new();
        while number != ROOT
            && let Some(node) = self.nodes.get(&number)
            && parts.len() < 64
        {
            parts.push(node.name.as_str());
            number = node.folder;
        }
        parts.reverse();
        parts.join("/")
    }

    /// What a path from the root names.
    #[cfg(test)]
    pub fn at(&self, path: &str) -> Result<u64, Errno> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        parts.try_fold(ROOT, |folder, name| self.find(folder, name))
    }

    // === what programs do ===

    /// A new file or folder.
    pub fn make(&mut self, folder: u64, name: &str, mode: u16, body: Body) -> Result<u64, Errno> {
        if self.names(folder)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.newest += 1;
        let node = Node::new(body, mode, (self.clock)());
        self.nodes.insert(self.newest, node);
        self.give_name(self.newest, folder, name)?;
        Ok(self.newest)
    }

    /// One more name for a file.
    pub fn link(&mut self, number: u64, folder: u64, name: &str) -> Result<(), Errno> {
        if let Body::Folder { .. } = self.node(number)?.body {
            return Err(Errno::EPERM);
        }
        if self.names(folder)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.give_name(number, folder, name)
    }

    fn give_name(&mut self, number: u64, folder: u64, name: &str) -> Result<(), Errno> {
        self.names_mut(folder)?.insert(name.to_owned(), number);
        let node = self.node_mut(number)?;
        node.names += 1;
        (node.folder, node.name) = (folder, name.to_owned());
        Ok(())
    }

    fn take_name(&mut self, folder: u64, name: &str) -> Result<u64, Errno> {
        let number = self.names_mut(folder)?.remove(name).ok_or(Errno::ENOENT)?;
        let node = self.node_mut(number)?;
        node.names -= 1;
        Ok(number)
    }

    /// Removes a name of a file.
    pub fn unlink(&mut self, folder: u64, name: &str) -> Result<(), Errno> {
        let number = self.find(folder, name)?;
        if let Body::Folder { .. } = self.node(number)?.body {
            return Err(Errno::EISDIR);
        }
        self.take_name(folder, name)?;
        self.let_go(number);
        Ok(())
    }

    /// Removes an empty folder.
    pub fn remove_folder(&mut self, folder: u64, name: &str) -> Result<(), Errno> {
        let number = self.find(folder, name)?;
        if !self.names(number)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.take_name(folder, name)?;
        self.let_go(number);
        Ok(())
    }

    /// Gives another name; whatever had it is replaced.
    pub fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> Result<(), Errno> {
        let number = self.find(from.0, from.1)?;
        match self.find(to.0, to.1) {
            Ok(replaced) if replaced == number => return Ok(()),
            Ok(replaced) => {
                let is_folder = |node: &Node| matches!(node.body, Body::Folder { .. });
                match (
                    is_folder(self.node(number)?),
                    is_folder(self.node(replaced)?),
                ) {
                    (true, true) if !self.names(replaced)?.is_empty() => {
                        return Err(Errno::ENOTEMPTY);
                    }
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    _ => {}
                }
                self.take_name(to.0, to.1)?;
                self.let_go(replaced);
            }
            Err(_) => {}
        }
        self.take_name(from.0, from.1)?;
        self.give_name(number, to.0, to.1)
    }

    pub fn opened(&mut self, number: u64) -> Result<(), Errno> {
        self.node_mut(number)?.open += 1;
        Ok(())
    }

    pub fn closed(&mut self, number: u64) {
        if let Ok(node) = self.node_mut(number) {
            node.open = node.open.saturating_sub(1);
            self.let_go(number);
        }
    }

    /// Forgets what nobody can reach any more.
    fn let_go(&mut self, number: u64) {
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        if node.names == 0 && node.open == 0 {
            match &mut node.body {
                _ if node.names_synced == 0 => drop(self.nodes.remove(&number)),
                // On the disk it is still there, and takes no room that anybody sees.
                Body::File(content) => content.resize(0),
                Body::Folder { .. } => {}
            }
        }
    }

    pub fn content(&self, number: u64) -> Result<&Content, Errno> {
        match &self.node(number)?.body {
            Body::File(content) => Ok(content),
            Body::Folder { .. } => Err(Errno::EISDIR),
        }
    }

    pub(crate) fn content_mut(&mut self, number: u64) -> Result<&mut Content, Errno> {
        match &mut self.node_mut(number)?.body {
            Body::File(content) => Ok(content),
            Body::Folder { .. } => Err(Errno::EISDIR),
        }
    }

    /// Writes into the page cache, if there is room.
    pub fn write(&mut self, number: u64, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let end = offset.checked_add(data.len() as u64).ok_or(Errno::EFBIG)?;
        let longer = end.saturating_sub(self.content(number)?.now().length());
        if longer > self.free() {
            self.refused += 1;
            return Err(Errno::ENOSPC);
        }
        self.content_mut(number)?.write(offset, data);
        self.node_mut(number)?.changed = (self.clock)();
        Ok(())
    }

    pub fn resize(&mut self, number: u64, length: u64) -> Result<(), Errno> {
        self.content_mut(number)?.resize(length);
        self.node_mut(number)?.changed = (self.clock)();
        Ok(())
    }

    pub fn set_mode(&mut self, number: u64, mode: u16) -> Result<(), Errno> {
        self.node_mut(number)?.mode = mode;
        Ok(())
    }

    /// What is seen of a file, or the names in a folder, are on the disk from now on.
    pub fn sync(&mut self, number: u64) -> Result<(), Errno> {
        let (before, after) = match &mut self.node_mut(number)?.body {
            Body::File(content) => {
                content.sync();
                return Ok(());
            }
            Body::Folder { now, synced } => (std::mem::replace(synced, now.clone()), now.clone()),
        };
        for number in after.values() {
            self.node_mut(*number)?.names_synced += 1;
        }
        for number in before.values() {
            if let Some(node) = self.nodes.get_mut(number) {
                node.names_synced = node.names_synced.saturating_sub(1);
                self.let_go(*number);
            }
        }
        Ok(())
    }

    // === how full it is ===

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.nodes.values().map(Node::length).sum()
    }

    /// How many bytes fit.
    pub fn capacity(&self) -> u64 {
        self.capacity.unwrap_or(ROOMY_BYTES)
    }

    /// None: as much as anybody wants.
    pub fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    pub fn free(&self) -> u64 {
        match self.capacity {
            Some(capacity) => capacity.saturating_sub(self.used()),
            None => ROOMY_BYTES,
        }
    }
}

/// A folder without names.
pub fn folder() -> Body {
    Body::Folder {
        now: Names::new(),
        synced: Names::new(),
    }
}

/// A file without bytes.
pub fn file() -> Body {
    Body::File(Content::default())
}
