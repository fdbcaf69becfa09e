//! The tree as a map of paths: slow, and short enough to be seen to be right.

use std::{collections::BTreeMap, rc::Rc};

use bytes::Bytes;

use super::super::{Action, Code, Event, Method, Refused, Shown, Write, event::seconds_left};

pub struct Model {
    pub index: u64,
    nodes: BTreeMap<Vec<u8>, Shown>,
    pub events: Vec<Event>,
}

impl Model {
    pub fn new(index: u64) -> Self {
        Self { index, nodes: BTreeMap::new(), events: Vec::new() }
    }

    /// As seen at no time in particular.
    pub fn content(&self) -> BTreeMap<Vec<u8>, Shown> {
        let at_0 = |node: &Shown| Shown {
            ttl: node.expires.map_or(0, |ends| seconds_left(ends, 0)),
            ..node.clone()
        };
        self.nodes.iter().map(|(path, node)| (path.clone(), at_0(node))).collect()
    }

    fn refused<T>(&self, code: Code, cause: impl Into<Bytes>) -> Result<T, Refused> {
        Err(Refused { code, cause: cause.into(), index: self.index })
    }

    /// Of everything above, whether it is a directory; then the node itself.
    fn find(&self, path: &[u8]) -> Result<Shown, Refused> {
        let ends = (1..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
        let mut above: Option<&Shown> = None;
        for end in ends.filter(|end| *end > 0) {
            if let Some(file) = above.filter(|above| !above.dir) {
                return self.refused(Code::NotDir, file.key.clone());
            }
            above = Some(match self.nodes.get(&path[..end]) {
                Some(node) => node,
                None => return self.refused(Code::KeyNotFound, path[..end].to_vec()),
            });
        }
        Ok(above.cloned().unwrap_or(Shown { dir: true, ..Shown::default() }))
    }

    fn at(&self, node: &Shown, time: i64) -> Shown {
        Shown { ttl: node.expires.map_or(0, |ends| seconds_left(ends, time)), ..node.clone() }
    }

    pub fn write(&mut self, write: &Write) -> Result<Event, Refused> {
        let method = write.method();
        let mut path = write.path.to_vec();
        if method == Method::CreateInOrder {
            path.extend_from_slice(format!("/{:020}", self.index + 1).as_bytes());
        }
        if path.is_empty() && method != Method::CompareAndDelete {
            return self.refused(Code::RootReadOnly, "/");
        }
        let found = self.find(&path);
        let time = write.time;
        let ends = Some(write.expires).filter(|ends| *ends != 0);
        let (action, node) = match method {
            Method::Set | Method::Create | Method::CreateInOrder => {
                let is_set = method == Method::Set;
                let value = match &found {
                    Err(refused) if refused.code == Code::NotDir => return Err(refused.clone()),
                    Err(refused) if is_set && write.refresh => return Err(refused.clone()),
                    Err(_) => write.value.clone(),
                    Ok(_) if !is_set => return self.refused(Code::NodeExists, path),
                    Ok(node) if node.dir => return self.refused(Code::NotFile, path),
                    Ok(node) if write.refresh => node.value.clone().expect("a file"),
                    Ok(_) => write.value.clone(),
                };
                let index = self.index + 1;
                for end in (1..path.len()).filter(|at| path[*at] == b'/') {
                    let key = path[..end].to_vec();
                    let dir = Shown {
                        key: key.clone().into(),
                        dir: true,
                        modified: index,
                        created: index,
                        ..Shown::default()
                    };
                    self.nodes.entry(key).or_insert(dir);
                }
                let node = Shown {
                    key: path.clone().into(),
                    value: (!write.dir).then_some(value),
                    dir: write.dir,
                    expires: ends.filter(|ends| *ends >= 946_684_800_000_000_000),
                    created: index,
                    modified: index,
                    ttl: 0,
                };
                (if is_set { Action::Set } else { Action::Create }, node)
            }
            Method::Update | Method::CompareAndSwap => {
                let node = found.clone()?;
                if method == Method::CompareAndSwap {
                    self.compare(&node, write)?;
                } else if node.dir && !write.value.is_empty() {
                    return self.refused(Code::NotFile, path);
                }
                let value = if write.refresh { node.value.clone() } else { Some(write.value.clone()) };
                let modified = self.index + 1;
                let changed = Shown { value: value.filter(|_| !node.dir), expires: ends, modified, ..node };
                (if method == Method::Update { Action::Update } else { Action::CompareAndSwap }, changed)
            }
            Method::Delete | Method::CompareAndDelete => {
                let node = found?;
                let action = match method {
                    Method::Delete => {
                        self.may_delete(&node, write)?;
                        Action::Delete
                    }
                    _ => {
                        self.compare(&node, write)?;
                        Action::CompareAndDelete
                    }
                };
                return Ok(self.end(&node, action, time));
            }
        };
        let before = if matches!(action, Action::Create) { None } else { found.as_ref().ok() };
        let before = before.map(|node| self.at(node, time));
        self.index += 1;
        // A directory that is updated keeps the index it has; whoever asked is told the new one.
        let kept = match (&before, node.dir && matches!(action, Action::Update)) {
            (Some(before), true) => Shown { modified: before.modified, ..node.clone() },
            _ => node.clone(),
        };
        self.nodes.insert(path, kept);
        let refresh = write.refresh && !matches!(action, Action::Create);
        let event = Event { action: action as i32, node: self.at(&node, time), before, refresh };
        self.events.push(event.clone());
        Ok(event)
    }

    fn may_delete(&self, node: &Shown, write: &Write) -> Result<(), Refused> {
        let below = [&node.key[..], b"/"].concat();
        let has_children = self.nodes.keys().any(|path| path.starts_with(&below));
        match node.dir {
            true if !write.dir && !write.recursive => self.refused(Code::NotFile, node.key.clone()),
            true if has_children && !write.recursive => self.refused(Code::DirNotEmpty, node.key.clone()),
            _ => Ok(()),
        }
    }

    fn compare(&self, node: &Shown, write: &Write) -> Result<(), Refused> {
        let Some(value) = &node.value else { return self.refused(Code::NotFile, node.key.clone()) };
        let mut failed = Vec::new();
        if !write.prev_value.is_empty() && write.prev_value != *value {
            failed.push(format!("[{} != {}]", text(&write.prev_value), text(value)));
        }
        if write.prev_index != 0 && write.prev_index != node.modified {
            failed.push(format!("[{} != {}]", write.prev_index, node.modified));
        }
        if failed.is_empty() { Ok(()) } else { self.refused(Code::TestFailed, failed.join(" ")) }
    }

    fn end(&mut self, node: &Shown, action: Action, time: i64) -> Event {
        let below = [&node.key[..], b"/"].concat();
        self.nodes.retain(|path, _| path != &node.key && !path.starts_with(&below));
        self.index += 1;
        let ended = Shown { value: None, expires: None, ttl: 0, modified: self.index, ..node.clone() };
        let before = Some(self.at(node, time));
        let event = Event { action: action as i32, node: ended, before, refresh: false };
        self.events.push(event.clone());
        event
    }

    /// Those that end together may do so in any order: it is the tree's, as long as it is by their times.
    pub fn expire(&mut self, time: i64, events: &[Rc<Event>]) -> usize {
        for told in events {
            let over = self.nodes.values().filter_map(|node| node.expires).min().expect("something is over");
            let node = self.nodes[&told.node.key[..]].clone();
            assert_eq!(node.expires, Some(over), "the first to end comes first");
            assert!(over <= time);
            assert_eq!(self.end(&node, Action::Expire, time), **told);
        }
        assert!(self.nodes.values().all(|node| node.expires.is_none_or(|ends| ends > time)), "some are left");
        events.len()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the test's own")
}
