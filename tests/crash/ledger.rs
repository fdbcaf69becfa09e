//! What clients were told, and whether a restarted server still knows it.
//!
//! Each writer owns its keys and writes 1, 2, 3, ... to them, one write at a time, so what may be found after a crash
//! is known exactly: the last acknowledged number or, if the write after it was cut off, that one.
//!
//! Pure: no clock, no network.

use std::collections::BTreeMap;

/// One acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub number: u64,
    pub revision: i64,
}

/// What one writer did while the server ran.
#[derive(Clone, Debug, Default)]
pub struct Diary {
    pub writer: usize,
    pub acknowledged: Vec<Acknowledged>,
    /// The highest number it tried to write, acknowledged or not.
    pub tried: u64,
}

/// What a restarted server holds of one writer: the last number, and where it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub number: u64,
    pub revision: i64,
}

/// Everything clients know.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Per writer: the last write known to be in the store.
    known: BTreeMap<usize, Acknowledged>,
    tried: BTreeMap<usize, u64>,
    /// By revision: who wrote which number there.
    history: BTreeMap<i64, (usize, u64)>,
    /// The highest revision any answer showed.
    revision: i64,
    /// Writes ever sent: each makes at most one revision.
    sent: i64,
    /// The highest revision a client asked to compact at.
    compacted: i64,
}

impl Ledger {
    pub fn number_of(&self, writer: usize) -> u64 {
        self.tried.get(&writer).copied().unwrap_or(0)
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn acknowledged(&self) -> usize {
        self.history.len()
    }

    pub fn compaction_sent(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision);
    }

    /// Takes in what a writer did. Fails if the answers themselves break the rules.
    pub fn note(&mut self, diary: Diary) -> Result<(), String> {
        let before = self.number_of(diary.writer);
        self.sent += i64::try_from(diary.tried.saturating_sub(before)).expect("few writes");
        for acknowledged in diary.acknowledged {
            self.record(diary.writer, acknowledged)?;
        }
        self.tried.insert(diary.writer, diary.tried.max(before));
        Ok(())
    }

    fn record(&mut self, writer: usize, write: Acknowledged) -> Result<(), String> {
        if let Some(known) = self.known.get(&writer)
            && (write.number < known.number || write.revision < known.revision)
        {
            return Err(format!("writer {writer}: {write:?} was acknowledged after {known:?}"));
        }
        if let Some(other) = self.history.insert(write.revision, (writer, write.number))
            && other != (writer, write.number)
        {
            return Err(format!(
                "revision {} was given to writer {writer} number {} and to writer {} number {}",
                write.revision, write.number, other.0, other.1
            ));
        }
        self.known.insert(writer, write);
        self.revision = self.revision.max(write.revision);
        Ok(())
    }

    /// Checks what a restarted server holds of a writer. What was read once must be there from then on.
    pub fn check_writer(&mut self, writer: usize, found: Option<Found>) -> Result<(), String> {
        let known = self.known.get(&writer).copied();
        let tried = self.number_of(writer);
        match (known, found) {
            (Some(known), None) => Err(format!("writer {writer}: {known:?} is gone")),
            (None, None) => Ok(()),
            (_, Some(found)) if found.number > tried => {
                Err(format!("writer {writer}: {found:?}, but it never tried more than {tried}"))
            }
            (Some(known), Some(found)) if found.number < known.number => {
                Err(format!("writer {writer}: {known:?} was lost, the server is back at {found:?}"))
            }
            (Some(known), Some(found))
                if found.number == known.number && found.revision != known.revision =>
            {
                Err(format!("writer {writer}: {known:?} moved to revision {}", found.revision))
            }
            (_, Some(found)) => {
                self.record(writer, Acknowledged { number: found.number, revision: found.revision })
            }
        }
    }

    /// Checks the store's revision after a restart.
    pub fn check_revision(&mut self, revision: i64) -> Result<(), String> {
        if revision < self.revision {
            return Err(format!("revision {} was shown to a client, now it is {revision}", self.revision));
        }
        if revision > 1 + self.sent {
            return Err(format!("revision {revision}, but only {} writes were ever sent", self.sent));
        }
        self.revision = revision;
        Ok(())
    }

    /// Up to `count` acknowledged writes that must still be readable at their revision, spread over all of them,
    /// newest included: (revision, writer, number).
    pub fn sample(&self, count: usize) -> Vec<(i64, usize, u64)> {
        let readable: Vec<_> = self
            .history
            .range(self.compacted.max(1)..)
            .map(|(&at, &(who, number))| (at, who, number))
            .collect();
        let step = readable.len().div_ceil(count).max(1);
        readable.into_iter().rev().step_by(step).collect()
    }
}

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
