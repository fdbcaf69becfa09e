//! The command of all changes that clients ask for.

use std::{rc::Rc, task::Poll};

use bytes::Bytes;
use prost::{Enumeration, Message};

use super::{
    Action, Code, Event, Refused, Tree,
    free::Freeing,
    node::{Content, Directory, NodeId},
    tree::{given, sensible},
};
use crate::state::{
    Error, StateMachine,
    command::{Command, Context, Kind, Needs, Principal},
    outcome::Outcome,
};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Method {
    Set = 0,
    Create = 1,
    /// Below the path, by the next index.
    CreateInOrder = 2,
    Update = 3,
    CompareAndSwap = 4,
    Delete = 5,
    CompareAndDelete = 6,
}

#[derive(Clone, PartialEq, Message)]
pub struct Write {
    #[prost(enumeration = "Method", tag = "1")]
    pub method: i32,
    /// [Clean](super::clean).
    #[prost(bytes = "bytes", tag = "2")]
    pub path: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub value: Bytes,
    #[prost(bool, tag = "4")]
    pub dir: bool,
    #[prost(bool, tag = "5")]
    pub recursive: bool,
    /// Empty where any value will do.
    #[prost(bytes = "bytes", tag = "6")]
    pub prev_value: Bytes,
    /// 0 where any will do.
    #[prost(uint64, tag = "7")]
    pub prev_index: u64,
    /// 0 for a node that stays.
    #[prost(sfixed64, tag = "8")]
    pub expires: i64,
    /// The value stays, and nobody is told.
    #[prost(bool, tag = "9")]
    pub refresh: bool,
    /// When it was asked for.
    #[prost(sfixed64, tag = "10")]
    pub time: i64,
}

pub type Answer = Result<Rc<Event>, Refused>;

/// How far one has come.
#[derive(Default)]
pub struct Progress {
    answer: Option<Answer>,
    freeing: Freeing,
}

impl Command for Write {
    type Answer = Answer;
    type Progress = Progress;
    const KIND: Kind = Kind::first(80);

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn shown(&self) -> String {
        format!("v2 {:?} path:{:?} value_size:{}", self.method(), self.path, self.value.len())
    }

    /// Who may is seen where it is admitted.
    fn permits(&self, _: &StateMachine, _: &Principal) -> Result<(), Error> {
        Ok(())
    }

    /// All that anybody sees is done in the first step.
    fn apply(
        &self,
        progress: &mut Progress,
        state: &mut StateMachine,
        context: Context<'_>,
        outcome: &mut Outcome,
    ) -> Poll<Result<Answer, Error>> {
        let tree = state.v2_mut();
        if progress.answer.is_none() {
            outcome.visited += 1;
            let answer = tree.write(self, &mut progress.freeing);
            if let Ok(event) = &answer {
                outcome.events.push(event.clone());
            }
            progress.answer = Some(answer);
        }
        let (freed, is_done) = tree.free(&mut progress.freeing, context.keys.max(1));
        outcome.visited += freed as u64;
        match is_done {
            true => Poll::Ready(Ok(progress.answer.take().expect("just made"))),
            false => Poll::Pending,
        }
    }
}

impl Tree {
    fn write(&mut self, write: &Write, freeing: &mut Freeing) -> Answer {
        let answer = self.act(write, freeing);
        self.counts.count(write.method(), answer.is_ok());
        answer
    }

    fn act(&mut self, write: &Write, freeing: &mut Freeing) -> Answer {
        match write.method() {
            Method::Set => self.set(write, freeing),
            Method::Create => self.create(write, &write.path),
            Method::CreateInOrder => {
                let path = [&write.path[..], format!("/{:020}", self.index + 1).as_bytes()].concat();
                self.create(write, &path)
            }
            Method::Update => self.update(write),
            Method::CompareAndSwap => self.compare_and_swap(write),
            Method::Delete => self.delete(write, freeing),
            Method::CompareAndDelete => self.compare_and_delete(write, freeing),
        }
    }

    /// The root stays as it is.
    fn check_root(&self, path: &[u8]) -> Result<(), Refused> {
        if path.is_empty() { Err(self.refusal(Code::RootReadOnly, "/")) } else { Ok(()) }
    }

    fn set(&mut self, write: &Write, freeing: &mut Freeing) -> Answer {
        let before = match self.find(&write.path) {
            Ok(id) => Some(id),
            Err(refused) if refused.code != Code::KeyNotFound || write.refresh => return Err(refused),
            Err(_) => None,
        };
        self.check_root(&write.path)?;
        let mut value = write.value.clone();
        let mut shown = None;
        if let Some(id) = before {
            let Some(known) = self.nodes.get(id).value().cloned() else {
                return Err(self.refusal(Code::NotFile, write.path.clone()));
            };
            if write.refresh {
                value = known;
            }
            shown = Some(self.show(id, write.time));
            self.cut(id, freeing);
        }
        let (parent, name) =
            self.make_way(&write.path).expect("what is above was found, or there is nothing");
        let event = Event { before: shown, refresh: write.refresh, ..Event::of(Action::Set) };
        Ok(self.made((parent, name), event, value, write))
    }

    fn create(&mut self, write: &Write, path: &[u8]) -> Answer {
        self.check_root(path)?;
        let (parent, name) = self.make_way(path)?;
        if self.child(parent, name).is_some() {
            return Err(self.refusal(Code::NodeExists, path.to_vec()));
        }
        Ok(self.made((parent, name), Event::of(Action::Create), write.value.clone(), write))
    }

    /// A new node, which a directory has room for.
    fn made(
        &mut self,
        (parent, name): (NodeId, &[u8]),
        event: Event,
        value: Bytes,
        write: &Write,
    ) -> Rc<Event> {
        let content = match write.dir {
            true => Content::Dir(Directory::default()),
            false => Content::File(value),
        };
        let id = self.hang(parent, name, content, self.index + 1, sensible(write.expires));
        let node = self.show(id, write.time);
        self.note(Event { node, ..event }, id)
    }

    fn update(&mut self, write: &Write) -> Answer {
        self.check_root(&write.path)?;
        let id = self.find(&write.path)?;
        let node = self.nodes.get(id);
        if node.is_dir() && !write.value.is_empty() {
            return Err(self.refusal(Code::NotFile, write.path.clone()));
        }
        self.changed(id, Event::of(Action::Update), write)
    }

    fn compare_and_swap(&mut self, write: &Write) -> Answer {
        self.check_root(&write.path)?;
        let id = self.compared(write)?;
        self.changed(id, Event::of(Action::CompareAndSwap), write)
    }

    /// A node gets a value and an end. Of a directory only the end is changed.
    fn changed(&mut self, id: NodeId, event: Event, write: &Write) -> Answer {
        let before = self.show(id, write.time);
        let index = self.index + 1;
        self.set_end(id, given(write.expires));
        self.nodes.change(id, |node| {
            if let Content::File(value) = &mut node.content {
                node.modified = index;
                if !write.refresh {
                    *value = write.value.clone();
                }
            }
        });
        let mut node = self.show(id, write.time);
        node.modified = index;
        Ok(self.note(Event { node, before: Some(before), refresh: write.refresh, ..event }, id))
    }

    fn delete(&mut self, write: &Write, freeing: &mut Freeing) -> Answer {
        self.check_root(&write.path)?;
        let id = self.find(&write.path)?;
        if let Some(directory) = self.nodes.get(id).directory() {
            if !write.dir && !write.recursive {
                return Err(self.refusal(Code::NotFile, write.path.clone()));
            }
            if !directory.children.is_empty() && !write.recursive {
                return Err(self.refusal(Code::DirNotEmpty, write.path.clone()));
            }
        }
        Ok(self.ended(id, Event::of(Action::Delete), write.time, freeing))
    }

    fn compare_and_delete(&mut self, write: &Write, freeing: &mut Freeing) -> Answer {
        let id = self.compared(write)?;
        Ok(self.ended(id, Event::of(Action::CompareAndDelete), write.time, freeing))
    }

    /// The file that is as the request would have it.
    fn compared(&self, write: &Write) -> Result<NodeId, Refused> {
        let id = self.find(&write.path)?;
        let node = self.nodes.get(id);
        let Some(value) = node.value() else {
            return Err(self.refusal(Code::NotFile, write.path.clone()));
        };
        let has_value = write.prev_value.is_empty() || write.prev_value == *value;
        let has_index = write.prev_index == 0 || write.prev_index == node.modified;
        if has_value && has_index {
            return Ok(id);
        }
        let values = [b"[", &write.prev_value[..], b" != ", value, b"]"].concat();
        let indices = format!("[{} != {}]", write.prev_index, node.modified).into_bytes();
        let cause = match (has_value, has_index) {
            (true, _) => indices,
            (false, true) => values,
            (false, false) => [&values[..], b" ", &indices].concat(),
        };
        Err(self.refusal(Code::TestFailed, cause))
    }

    pub(super) fn ended(&mut self, id: NodeId, event: Event, time: i64, freeing: &mut Freeing) -> Rc<Event> {
        let before = self.show(id, time);
        let parent = self.nodes.get(id).parent;
        let mut node = before.clone();
        (node.value, node.expires, node.ttl, node.modified) = (None, None, 0, self.index + 1);
        self.cut(id, freeing);
        self.note(Event { node, before: Some(before), ..event }, parent)
    }
}

impl Event {
    pub(super) fn of(action: Action) -> Self {
        Self { action: action as i32, ..Self::default() }
    }
}
