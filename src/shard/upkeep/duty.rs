//! Whether what only the leader does is this member's to do.
//!
//! Written by the loop, which hears of leadership from the replica; read by the tasks beside it, which compact, check
//! and raise alarms. A term is led once: who finds the same term at the end of its work has led all the while.

use std::{cell::Cell, rc::Rc};

use crate::{shard::group::Leadership, types::Term};

/// A share of the one cell.
#[derive(Clone, Debug, Default)]
pub struct Duty(Rc<Cell<Option<Term>>>);

impl Duty {
    /// The term in which this member leads now.
    pub fn term(&self) -> Option<Term> {
        self.0.get()
    }

    pub(super) fn follow(&self, leadership: Leadership) {
        self.0.set(match leadership {
            Leadership::Gained(term) => Some(term),
            Leadership::Lost => None,
        });
    }
}
