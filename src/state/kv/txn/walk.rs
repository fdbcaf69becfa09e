//! The way through a transaction: its operations and those of nested ones, in order, on the branches taken.
//!
//! A walk borrows the request; it is left with [`Walk::place`] and taken up again where that was. Without recursion,
//! however deep transactions are nested.

use crate::pb::etcdserverpb::{self as pb, request_op::Request as Op};

/// What is met next.
pub enum Met<'a> {
    /// A range, a put or a deletion.
    Op(&'a Op),
    /// A nested transaction: [`Walk::enter`] goes on with one of its branches, else it is passed by.
    Nested(&'a pb::TxnRequest),
    /// An operation of a kind that is not known.
    Nothing,
    /// The end of a nested transaction.
    Left,
}

/// A request, and which branch each transaction takes, in the order they are met on the branches taken.
#[derive(Clone, Copy)]
pub struct Chosen<'a> {
    pub request: &'a pb::TxnRequest,
    pub path: &'a [bool],
}

impl<'a> Chosen<'a> {
    /// Begins, or goes on at a place.
    pub fn walk(self, place: Option<&Place>) -> Walk<'a> {
        match place {
            Some(place) => Walk::at(self.request, place),
            None => Walk::new(self.request, self.path[0]),
        }
    }

    /// Goes on with the branch that a nested transaction takes; whether its comparisons held.
    pub fn enter(self, walk: &mut Walk<'a>, nested: &'a pb::TxnRequest) -> bool {
        let succeeded = self.path[walk.entered];
        walk.enter(nested, succeeded);
        succeeded
    }
}

pub struct Walk<'a> {
    here: Level<'a>,
    above: Vec<Level<'a>>,
    /// Transactions that were entered.
    entered: usize,
}

/// The branch of one transaction.
struct Level<'a> {
    succeeded: bool,
    ops: &'a [pb::RequestOp],
    next: usize,
}

/// Where a walk was left.
#[derive(Debug)]
pub struct Place {
    /// Of each transaction that was entered and not left: the branch, and the operation that follows.
    levels: Vec<(bool, usize)>,
    entered: usize,
}

impl<'a> Level<'a> {
    fn new(request: &'a pb::TxnRequest, succeeded: bool) -> Self {
        Level { succeeded, ops: if succeeded { &request.success } else { &request.failure }, next: 0 }
    }
}

impl<'a> Walk<'a> {
    pub fn new(request: &'a pb::TxnRequest, succeeded: bool) -> Self {
        Walk { here: Level::new(request, succeeded), above: Vec::new(), entered: 1 }
    }

    /// Goes on in the same request.
    pub fn at(request: &'a pb::TxnRequest, place: &Place) -> Self {
        let (&(succeeded, next), nested) = place.levels.split_first().expect("a walk is somewhere");
        let mut walk = Walk::new(request, succeeded);
        walk.here.next = next;
        for &(succeeded, next) in nested {
            walk.enter(walk.nested(), succeeded);
            walk.here.next = next;
        }
        walk.entered = place.entered;
        walk
    }

    pub fn place(&self) -> Place {
        let levels = self.above.iter().chain([&self.here]).map(|level| (level.succeeded, level.next));
        Place { levels: levels.collect(), entered: self.entered }
    }

    pub fn next(&mut self) -> Option<Met<'a>> {
        let Some(op) = self.here.ops.get(self.here.next) else {
            self.here = self.above.pop()?;
            return Some(Met::Left);
        };
        self.here.next += 1;
        Some(match &op.request {
            Some(Op::RequestTxn(nested)) => Met::Nested(nested),
            Some(op) => Met::Op(op),
            None => Met::Nothing,
        })
    }

    /// Has the operation met last be met again.
    pub fn step_back(&mut self) {
        self.here.next -= 1;
    }

    /// The transaction met last.
    pub fn nested(&self) -> &'a pb::TxnRequest {
        match &self.here.ops[self.here.next - 1].request {
            Some(Op::RequestTxn(nested)) => nested,
            _ => unreachable!("a nested transaction was met"),
        }
    }

    pub fn enter(&mut self, nested: &'a pb::TxnRequest, succeeded: bool) {
        self.above.push(std::mem::replace(&mut self.here, Level::new(nested, succeeded)));
        self.entered += 1;
    }

    /// Operations of the transaction entered last.
    pub fn len(&self) -> usize {
        self.here.ops.len()
    }
}
