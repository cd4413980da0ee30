//! Files that are read again when they change. What cannot be used is told, and what was there before stays.
//!
//! The contents are compared, not the times of files: replacing a file, renaming another over it and swapping a
//! symbolic link of a folder above it all come out the same. A change counts once two looks in a row have seen it, so
//! that a certificate whose key comes a moment later is no mistake.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parlance_proto::tls::TlsError;
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};

use crate::expiry::{Expires, Warner};
use crate::metrics;
use crate::seldom::Seldom;

/// Between two looks at the files.
const INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1000 });

/// After contents were refused, until the same are tried again: a certificate may begin a little later than it is put there.
const RETRY: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 60_000 });
/// Why they are refused is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(3600);

/// The contents of the files, in their order, or why they cannot be read.
type Contents = Result<Vec<Vec<u8>>, String>;

/// Makes what the files mean of their contents; what was there before, if anything, may say no.
type Parse<T> = dyn Fn(Vec<Vec<u8>>, Option<&T>) -> Result<T, TlsError> + Send + Sync;

/// What some files hold, as it is now.
pub struct Followed<T> {
    name: String,
    files: Vec<PathBuf>,
    parse: Box<Parse<T>>,
    now: watch::Sender<Arc<T>>,
    asked: Arc<Notify>,
}

impl<T: Expires + Send + Sync + 'static> Followed<T> {
    /// Reads the files, and follows them until the answer is dropped. `name` is for logs and metrics.
    ///
    /// # Errors
    /// Files that cannot be read or used.
    pub fn open(
        name: impl Into<String>,
        files: Vec<PathBuf>,
        parse: impl Fn(Vec<Vec<u8>>, Option<&T>) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, TlsError> {
        let mut contents = Vec::new();
        for path in &files {
            contents.push(std::fs::read(path).map_err(|e| TlsError::File {
                path: path.clone(),
                reason: e.to_string(),
            })?);
        }
        let first = parse(contents.clone(), None)?;
        let followed = Arc::new(Self {
            name: name.into(),
            files,
            parse: Box::new(parse),
            now: watch::Sender::new(Arc::new(first)),
            asked: Arc::default(),
        });
        let asked = followed.asked.clone();
        tokio::spawn(follow(Arc::downgrade(&followed), asked, Ok(contents)));
        Ok(followed)
    }

    /// What the files held when they were last good.
    pub fn now(&self) -> Arc<T> {
        self.now.borrow().clone()
    }

    /// Told of each change.
    pub fn changes(&self) -> watch::Receiver<Arc<T>> {
        self.now.subscribe()
    }

    /// Looks at the files at once; a change counts at the first look, and what was refused is tried again.
    pub fn look(&self) {
        self.asked.notify_one();
    }

    async fn read(&self) -> Contents {
        let mut contents = Vec::new();
        for path in &self.files {
            let read = tokio::fs::read(path).await;
            contents.push(read.map_err(|e| format!("{}: {e}", path.display()))?);
        }
        Ok(contents)
    }

    fn take(&self, contents: Contents) -> Result<(), String> {
        let before = self.now();
        let new = (self.parse)(contents?, Some(&before)).map_err(|e| e.to_string())?;
        self.now.send_replace(Arc::new(new));
        Ok(())
    }
}

/// Looks at the files until nobody wants to know. `judged` is what the last decision was made on.
async fn follow<T: Expires + Send + Sync + 'static>(
    followed: Weak<Followed<T>>,
    asked: Arc<Notify>,
    mut judged: Contents,
) {
    let mut warner = Warner::default();
    if let Some(followed) = followed.upgrade() {
        warner.renewed(&*followed.now());
    }
    let mut seen_once: Option<Contents> = None;
    // Since when what was judged is refused; none if it is in use.
    let mut refused: Option<Instant> = None;
    let seldom = Seldom::every(TELL_AGAIN, "certificates that cannot be used");
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let at_once = tokio::select! {
            _ = ticks.tick() => false,
            () = asked.notified() => true,
        };
        let Some(followed) = followed.upgrade() else {
            return;
        };
        warner.look(&*followed.now());
        let contents = followed.read().await;
        if contents == judged {
            seen_once = None;
            if !refused.is_some_and(|at| at_once || at.elapsed() >= RETRY) {
                continue;
            }
        } else if !at_once && seen_once.as_ref() != Some(&contents) {
            seen_once = Some(contents);
            continue;
        }
        seen_once = None;
        let anew = at_once || contents != judged;
        judged = contents.clone();
        let certificate = followed.name.as_str();
        match followed.take(contents) {
            Ok(()) => {
                refused = None;
                metrics::reloaded(certificate, "ok");
                warner.renewed(&*followed.now());
                tracing::info!(
                    certificate,
                    "the certificate was read again: new connections use it"
                );
            }
            Err(error) => {
                refused = Some(Instant::now());
                metrics::reloaded(certificate, "failed");
                if seldom.tells(&error) || anew {
                    tracing::error!(
                        certificate,
                        error,
                        "a changed certificate cannot be used: the one before stays in use, and this one is tried again"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::Mutex;
    use tokio::time::{sleep, timeout};

    /// What was asked to be taken.
    type Tried = Arc<Mutex<Vec<String>>>;

    struct Text(String);

    impl Expires for Text {
        fn expires(&self) -> Vec<(String, i64)> {
            Vec::new()
        }
    }

    /// Takes anything but a text that begins with "bad", and knows what it was asked to take.
    fn open(path: &Path) -> (Arc<Followed<Text>>, Tried) {
        let tried = Tried::default();
        let texts = tried.clone();
        let followed = Followed::open("test", vec![path.to_owned()], move |contents, _| {
            let text = String::from_utf8_lossy(&contents.concat()).into_owned();
            texts.lock().push(text.clone());
            if text.starts_with("bad") {
                return Err(TlsError::Unreadable(text));
            }
            Ok(Text(text))
        });
        (followed.unwrap(), tried)
    }

    const SOON: Duration = Duration::from_secs(60);

    async fn becomes(followed: &Followed<Text>, text: &str) {
        let mut changes = followed.changes();
        let changed = changes.wait_for(|now| now.0 == text);
        timeout(SOON, changed).await.expect(text).unwrap();
    }

    #[tokio::test]
    async fn a_replaced_file_a_renamed_one_and_a_swapped_link_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let (followed, _) = open(&path);
        std::fs::write(&path, "two").unwrap();
        becomes(&followed, "two").await;
        std::fs::write(dir.path().join("new"), "three").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        becomes(&followed, "three").await;

        // As Kubernetes does it: the file is a link into a link to a folder, which is swapped.
        let (data, file) = (dir.path().join("data"), dir.path().join("linked"));
        for text in ["one", "two"] {
            std::fs::create_dir(dir.path().join(text)).unwrap();
            std::fs::write(dir.path().join(text).join("file"), text).unwrap();
        }
        symlink("one", &data).unwrap();
        symlink("data/file", &file).unwrap();
        let (followed, _) = open(&file);
        symlink("two", dir.path().join("swap")).unwrap();
        std::fs::rename(dir.path().join("swap"), &data).unwrap();
        becomes(&followed, "two").await;
    }

    #[tokio::test]
    async fn what_cannot_be_used_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let (followed, tried) = open(&path);
        for text in ["bad", "bad again"] {
            std::fs::write(&path, text).unwrap();
            let judged = async {
                while !tried.lock().iter().any(|tried| tried == text) {
                    sleep(INTERVAL).await;
                }
            };
            timeout(SOON, judged).await.expect(text);
            assert_eq!(followed.now().0, "one", "after {text:?}");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        becomes(&followed, "two").await;
    }

    #[tokio::test]
    async fn what_was_refused_is_taken_when_its_time_has_come() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let (refused, good) = (Arc::new(Mutex::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, is_good) = (refused.clone(), good.clone());
        let parse = move |contents: Vec<Vec<u8>>, before: Option<&Text>| {
            if before.is_some() && !is_good.load(Ordering::Relaxed) {
                *count.lock() += 1;
                return Err(TlsError::Unreadable("not yet".into()));
            }
            Ok(Text(
                String::from_utf8_lossy(&contents.concat()).into_owned(),
            ))
        };
        let followed = Followed::open("test", vec![path.clone()], parse).unwrap();
        std::fs::write(&path, "early").unwrap();
        let again = async {
            while *refused.lock() < 2 {
                sleep(INTERVAL).await;
            }
        };
        timeout(SOON, again).await.expect("it is tried again");
        assert_eq!(followed.now().0, "one");
        good.store(true, Ordering::Relaxed);
        becomes(&followed, "early").await;
    }

    #[tokio::test]
    async fn the_files_are_not_followed_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let (followed, tried) = open(&path);
        let weak = Arc::downgrade(&followed);
        let mut changes = followed.changes();
        drop(followed);
        // The sender goes with the last who follows.
        let gone = timeout(SOON, changes.changed()).await.unwrap();
        assert!(gone.is_err() && weak.upgrade().is_none());
        assert_eq!(tried.lock().len(), 1);
    }
}
