//! A store on a disk that fails on demand, for tests.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::manifest::Existing;
use super::rocks::RocksStore;
use super::{Order, ReadView, RowFile, RowRange, StateStore, StoreError, Table, WriteBatch};

/// What is held goes on by itself after this.
const HELD_MAX: Duration = Duration::from_secs(20);

pub(crate) struct FaultyStore {
    rows: Arc<RocksStore>,
    /// Nothing more fits.
    pub(crate) full: AtomicBool,
    /// The next write waits for this.
    pub(crate) held: Mutex<Option<Receiver<()>>>,
    /// The next read of a row waits for this.
    pub(crate) get_held: Mutex<Option<Receiver<()>>>,
    /// A read, a write or an import waits.
    pub(crate) holds: AtomicBool,
    /// So many writes do nothing and fail.
    pub(crate) writes_fail: AtomicU32,
    /// While set, reads of rows of lists wait.
    pub(crate) lists_hang: AtomicBool,
    /// So many of them wait.
    pub(crate) lists_hanging: AtomicU32,
    /// So many of them fail.
    pub(crate) lists_fail: AtomicU32,
    /// So many views cannot be read.
    pub(crate) views_fail: AtomicU32,
    /// So many imports do nothing and fail.
    pub(crate) imports_fail: AtomicU32,
    /// How long an import takes longer.
    pub(crate) import_takes: Mutex<Duration>,
    /// The next import waits for this, and says so in `holds`.
    pub(crate) import_held: Mutex<Option<Receiver<()>>>,
    /// Imports that were done.
    pub(crate) imports: AtomicU32,
    /// Done once, right after the next scan.
    pub(crate) after_scan: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl FaultyStore {
    pub(crate) fn open(dir: &Path) -> Self {
        Self::over(Arc::new(RocksStore::open(dir, Existing::No).unwrap()))
    }

    pub(crate) fn over(rows: Arc<RocksStore>) -> Self {
        Self {
            rows,
            full: AtomicBool::default(),
            held: Mutex::default(),
            get_held: Mutex::default(),
            holds: AtomicBool::default(),
            writes_fail: AtomicU32::default(),
            lists_hang: AtomicBool::default(),
            lists_hanging: AtomicU32::default(),
            lists_fail: AtomicU32::default(),
            views_fail: AtomicU32::default(),
            imports_fail: AtomicU32::default(),
            import_takes: Mutex::default(),
            import_held: Mutex::default(),
            imports: AtomicU32::default(),
            after_scan: Mutex::default(),
        }
    }
}

impl FaultyStore {
    fn hold(&self, held: &Mutex<Option<Receiver<()>>>) {
        let held = held.lock().take();
        if let Some(held) = held {
            self.holds.store(true, Ordering::SeqCst);
            let _ = held.recv_timeout(HELD_MAX); // whoever holds it looks at `holds`
            self.holds.store(false, Ordering::SeqCst);
        }
    }
}

fn refuse() -> Result<(), StoreError> {
    Err(StoreError::File {
        path: "state".into(),
        source: Arc::new(std::io::Error::other("No space left on device")),
    })
}

fn refuse_some(left: &AtomicU32) -> Result<(), StoreError> {
    let take_one = |left: u32| left.checked_sub(1);
    match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one) {
        Ok(_) => refuse(),
        Err(_) => Ok(()),
    }
}

impl StateStore for FaultyStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.hold(&self.get_held);
        self.rows.get(table, key)
    }

    fn get_many(&self, table: Table, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StoreError> {
        if matches!(table, Table::Users) {
            refuse_some(&self.lists_fail)?;
            self.lists_hanging.fetch_add(1, Ordering::SeqCst);
            let until = Instant::now() + HELD_MAX;
            while self.lists_hang.load(Ordering::SeqCst) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.lists_hanging.fetch_sub(1, Ordering::SeqCst);
        }
        self.rows.get_many(table, keys)
    }

    fn get_durable(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.rows.get_durable(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.rows.scan(table, from, to, order, visit)?;
        let done = self.after_scan.lock().take();
        if let Some(done) = done {
            done();
        }
        Ok(())
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), StoreError> {
        self.hold(&self.held);
        refuse_some(&self.writes_fail)?;
        self.rows.write(batch)
    }

    fn try_write(&self, batch: &WriteBatch) -> Result<bool, StoreError> {
        if self.held.lock().is_some() || self.writes_fail.load(Ordering::SeqCst) > 0 {
            return Ok(false);
        }
        self.rows.try_write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        if self.full.load(Ordering::SeqCst) {
            return refuse();
        }
        self.rows.flush()
    }

    fn view(&self, read: &mut ReadView<'_>) -> Result<(), StoreError> {
        refuse_some(&self.views_fail)?;
        self.rows.view(read)
    }

    fn import(&self, ranges: &[RowRange], dir: &Path, files: &[RowFile]) -> Result<(), StoreError> {
        refuse_some(&self.imports_fail)?;
        self.hold(&self.import_held);
        std::thread::sleep(*self.import_takes.lock());
        self.rows.import(ranges, dir, files)?;
        self.imports.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}
