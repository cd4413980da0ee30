//! The disk as a mounted file system.
//!
//! Nothing is cached by the kernel: every read and write comes here, so that faults strike when they are asked for.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, Session, TimeOrNow, WriteFlags,
};
use parking_lot::{Condvar, Mutex};
use rustix::mount::UnmountFlags;

use crate::content::BLOCK_BYTES;
use crate::damage::Remembered;
use crate::disk::{Body, Disk, ROOT, file, folder};
use crate::rules::{Op, Rule, Rules, Strike};

/// The kernel remembers nothing.
const NOW: Duration = Duration::ZERO;
const NAME_BYTES_MAX: u32 = 255;
/// As in `O_APPEND`.
const APPEND: i32 = 0o2000;

/// The disk, its faults, and what waits for their end.
pub struct Shared {
    pub disk: Mutex<Disk>,
    pub rules: Mutex<Rules>,
    pub remembered: Mutex<Remembered>,
    /// Without power nothing ends well.
    off: Mutex<bool>,
    changed: Condvar,
}

impl Shared {
    pub fn new(disk: Disk) -> Self {
        Self {
            disk: Mutex::new(disk),
            rules: Mutex::default(),
            remembered: Mutex::default(),
            off: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    pub fn add_rule(&self, rule: Rule) {
        self.rules.lock().add(rule);
    }

    /// All faults end, and the disk is roomy again.
    pub fn heal(&self) {
        let _off = self.off.lock(); // nobody is between a look and its wait
        self.rules.lock().clear();
        self.disk.lock().set_capacity(None);
        self.changed.notify_all();
    }

    /// From now on, and for what has not ended yet, there is only EIO, until [`Shared::switch_on`].
    pub fn switch_off(&self) {
        *self.off.lock() = true;
        self.changed.notify_all();
    }

    pub fn switch_on(&self) {
        *self.off.lock() = false;
    }

    /// Blocks while an operation hangs, or as long as it takes longer. False: the power went meanwhile.
    fn wait(&self, op: Op, path: &str, strike: Strike) -> bool {
        let mut off = self.off.lock();
        match strike {
            Strike::Slow(longer) => {
                self.changed.wait_while_for(&mut off, |off| !*off, longer);
            }
            Strike::Hang | Strike::Fail => {
                while !*off && self.rules.lock().hangs(op, path) {
                    self.changed.wait(&mut off);
                }
            }
        }
        !*off
    }
}

/// Mounts the disk over a folder.
pub fn mount(shared: Arc<Shared>, folder: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("parlance-disk".to_owned()),
        MountOption::NoAtime,
    ];
    Session::new(Mounted(shared), folder, &config)?.spawn()
}

/// Takes it away, whoever may still use it.
pub fn unmount(folder: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(folder, UnmountFlags::DETACH)?)
}

struct Mounted(Arc<Shared>);

impl Mounted {
    /// Does what was asked, as the disk's faults have it; `work` does the rest, and answers.
    fn struck<R: Send + 'static>(
        &self,
        op: Op,
        number: u64,
        reply: R,
        refuse: fn(R, Errno),
        work: impl FnOnce(&Shared, R) + Send + 'static,
    ) {
        if *self.0.off.lock() {
            return refuse(reply, Errno::EIO);
        }
        let path = self.0.disk.lock().path(number);
        let strike = self.0.rules.lock().strike(op, &path);
        match strike {
            None => work(&self.0, reply),
            Some(Strike::Fail) => refuse(reply, Errno::EIO),
            Some(later) => {
                let shared = self.0.clone();
                std::thread::spawn(move || match shared.wait(op, &path, later) {
                    true => work(&shared, reply),
                    false => refuse(reply, Errno::EIO),
                });
            }
        }
    }

    fn make(
        &self,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        body: Body,
    ) -> Result<FileAttr, Errno> {
        let mut disk = self.0.disk.lock();
        let number = disk.make(parent.0, text(name)?, mode as u16 & 0o7777, body)?;
        attributes(&disk, number)
    }

    fn sync(&self, number: u64, reply: ReplyEmpty) {
        self.struck(
            Op::Sync,
            number,
            reply,
            ReplyEmpty::error,
            move |shared, reply| {
                answer(reply, shared.disk.lock().sync(number));
            },
        );
    }
}

fn text(name: &OsStr) -> Result<&str, Errno> {
    name.to_str().ok_or(Errno::EINVAL)
}

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.entry(&NOW, &attributes, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn attributes(disk: &Disk, number: u64) -> Result<FileAttr, Errno> {
    let node = disk.node(number)?;
    let kind = match node.body {
        Body::File(_) => FileType::RegularFile,
        Body::Folder { .. } => FileType::Directory,
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size: node.length(),
        blocks: node.length().div_ceil(512),
        atime: node.changed,
        mtime: node.changed,
        ctime: node.changed,
        crtime: node.changed,
        kind,
        perm: node.mode,
        nlink: node.names.max(1),
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES as u32,
        flags: 0,
    })
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let disk = self.0.disk.lock();
        let found = text(name).and_then(|name| disk.find(parent.0, name));
        entry(reply, found.and_then(|number| attributes(&disk, number)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.0.disk.lock(), ino.0) {
            Ok(attributes) => reply.attr(&NOW, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.0.disk.lock();
        let changed = match (size, mode) {
            (Some(size), _) => disk.resize(ino.0, size),
            (None, Some(mode)) => disk.set_mode(ino.0, mode as u16 & 0o7777),
            (None, None) => Ok(()),
        };
        match changed.and_then(|()| attributes(&disk, ino.0)) {
            Ok(attributes) => reply.attr(&NOW, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        entry(reply, self.make(parent, name, mode, folder()));
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        entry(reply, self.make(parent, name, mode, file()));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut disk = self.0.disk.lock();
        answer(
            reply,
            text(name).and_then(|name| disk.unlink(parent.0, name)),
        );
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut disk = self.0.disk.lock();
        answer(
            reply,
            text(name).and_then(|name| disk.remove_folder(parent.0, name)),
        );
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = || {
            if !flags.is_empty() {
                return Err(Errno::EINVAL);
            }
            let (from, to) = (text(name)?, text(newname)?);
            self.0
                .disk
                .lock()
                .rename((parent.0, from), (newparent.0, to))
        };
        answer(reply, renamed());
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let mut disk = self.0.disk.lock();
        let linked = text(newname).and_then(|name| disk.link(ino.0, newparent.0, name));
        entry(reply, linked.and_then(|()| attributes(&disk, ino.0)));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.0.disk.lock().opened(ino.0) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.make(parent, name, mode, file());
        let opened = made.and_then(|made| {
            self.0.disk.lock().opened(made.ino.0)?;
            Ok(made)
        });
        match opened {
            Ok(made) => {
                let (handle, direct) = (FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
                reply.created(&NOW, &made, Generation(0), handle, direct);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.struck(
            Op::Read,
            ino.0,
            reply,
            ReplyData::error,
            move |shared, reply| {
                let disk = shared.disk.lock();
                match disk.content(ino.0) {
                    Ok(content) => reply.data(&content.now().read(offset, size as usize)),
                    Err(errno) => reply.error(errno),
                }
            },
        );
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let data = data.to_vec();
        self.struck(
            Op::Write,
            ino.0,
            reply,
            ReplyWrite::error,
            move |shared, reply| {
                let mut disk = shared.disk.lock();
                let end = disk.node(ino.0).map_or(offset, |node| node.length());
                let at = if flags.0 & APPEND == 0 { offset } else { end };
                match disk.write(ino.0, at, &data) {
                    Ok(()) => reply.written(data.len() as u32),
                    Err(errno) => reply.error(errno),
                }
            },
        );
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.0.disk.lock().closed(ino.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino.0, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino.0, reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let disk = self.0.disk.lock();
        let names = match disk.names(ino.0) {
            Ok(names) => names,
            Err(errno) => return reply.error(errno),
        };
        // By number: what is removed between two calls must not make the rest move up.
        let mut all: Vec<(u64, &str, u64)> = names
            .iter()
            .map(|(name, number)| (number + 1, name.as_str(), *number))
            .collect();
        all.extend([(1, ".", ino.0), (2, "..", ROOT)]);
        all.sort_unstable();
        for (place, name, number) in all.into_iter().filter(|(place, ..)| *place > offset) {
            let kind = match disk.node(number).map(|node| &node.body) {
                Ok(Body::File(_)) => FileType::RegularFile,
                _ => FileType::Directory,
            };
            if reply.add(INodeNo(number), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let disk = self.0.disk.lock();
        let (block, free) = (BLOCK_BYTES as u64, disk.free());
        let all = disk.capacity().max(disk.used()) / block;
        let (files, size) = (1 << 20, BLOCK_BYTES as u32);
        reply.statfs(
            all,
            free / block,
            free / block,
            files,
            files,
            size,
            NAME_BYTES_MAX,
            size,
        );
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        // Whoever reserves room is told that this cannot be done, and writes without.
        reply.error(Errno::EOPNOTSUPP);
    }
}
