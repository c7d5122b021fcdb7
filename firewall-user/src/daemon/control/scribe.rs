//! Writing down what single rules changed: behind the answer, as a disk takes longer to be sure than all else. The last text
//! counts; those before it that weren't begun are left out.

use super::persist::{self, LastGood};
use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

#[derive(Debug, Default)]
struct Desk {
    waiting: Option<(PathBuf, LastGood)>,
    /// Texts that were promised.
    promised: usize,
    busy: bool,
    trouble: Option<String>,
}

#[derive(Debug)]
struct Shared {
    desk: Mutex<Desk>,
    done: Condvar,
    /// Where the last good policy is kept.
    last_good: PathBuf,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Scribe(Arc<Shared>);

impl Scribe {
    /// Keeps the last good policy there.
    pub fn new(last_good: PathBuf) -> Self {
        Self(Arc::new(Shared { desk: Mutex::default(), done: Condvar::new(), last_good }))
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is live now, and is to be in `file` soon.
    fn write(&self, file: PathBuf, last: LastGood) {
        let mut desk = self.desk();
        desk.waiting = Some((file, last));
        if !std::mem::replace(&mut desk.busy, true) {
            let this = self.clone();
            thread::spawn(move || this.work());
        }
    }

    /// There will be something to be written: [`Self::flush`] waits for it as long as the promise isn't dropped.
    pub fn promise(&self) -> Promise {
        self.desk().promised += 1;
        Promise(self.clone())
    }

    fn work(&self) {
        loop {
            let Some((file, last)) = self.desk().waiting.take() else { break };
            let written = persist::prepare(&file, &last.text).and_then(persist::Prepared::commit);
            let trouble = written.err().map(|error| {
                let (generation, file) = (last.generation, file.display());
                format!("generation {generation} is live, but {file} couldn't be replaced: {error}")
            });
            if let Some(trouble) = &trouble {
                log::error!("{trouble}");
            }
            self.desk().trouble = trouble;
            if let Err(error) = last.save(&self.0.last_good) {
                log::warn!("{}: {error}", self.0.last_good.display());
            }
            let mut desk = self.desk();
            if desk.waiting.is_none() {
                desk.busy = false;
                self.0.done.notify_all();
                return;
            }
        }
        self.desk().busy = false;
        self.0.done.notify_all();
    }

    /// Returns when all is written.
    pub fn flush(&self) {
        let mut desk = self.desk();
        while desk.busy || desk.promised != 0 {
            desk = self.0.done.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Why the file isn't what is live, if it isn't.
    pub fn trouble(&self) -> Option<String> {
        self.desk().trouble.clone()
    }

    /// The file was replaced otherwise.
    pub fn is_well(&self) {
        self.desk().trouble = None;
    }
}

/// See [`Scribe::promise`].
#[derive(Debug)]
pub struct Promise(Scribe);

impl Promise {
    /// It is kept.
    pub fn keep(self, file: PathBuf, last: LastGood) {
        self.0.write(file, last);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.desk().promised -= 1;
        self.0.0.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::directory;

    #[test]
    fn the_last_text_is_what_is_found() {
        let dir = directory();
        let (file, last_good) = (dir.join("policy"), dir.join("live.json"));
        std::fs::write(&file, "old").expect("written");
        let scribe = Scribe::new(last_good.clone());
        let last = |text: &str| LastGood { text: text.to_owned(), ..LastGood::default() };
        for i in 0..50 {
            scribe.promise().keep(file.clone(), last(&i.to_string()));
        }
        scribe.flush();
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "49");
        assert_eq!(LastGood::load(&last_good), Some(last("49")));
        scribe.promise().keep(dir.join("no/such/place"), last("50"));
        scribe.flush();
        assert!(scribe.trouble().is_some_and(|said| said.contains("couldn't be replaced")));
        let promise = scribe.promise();
        let kept = file.clone();
        let later = thread::spawn(move || {
            thread::sleep(std::time::Duration::from_millis(50));
            promise.keep(kept, LastGood { text: "51".to_owned(), ..LastGood::default() });
        });
        scribe.flush();
        assert_eq!(scribe.trouble(), None);
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "51");
        later.join().expect("no panic");
    }
}
