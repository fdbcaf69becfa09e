//! Which keys a watch is about.

/// One key, or all from a first one up to an excluded end or to the last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Keys {
    One(Box<[u8]>),
    Range { start: Box<[u8]>, end: Option<Box<[u8]>> },
}

/// Its end lies before its start or at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmptyRange;

impl Keys {
    /// As a request names them: without a key from the smallest one on, without an end one key, with a zero byte for an
    /// end all that follow (`recvLoop` in etcd v3.7 `api/v3rpc/watch.go`).
    pub fn new(key: &[u8], range_end: &[u8]) -> Result<Self, EmptyRange> {
        let start: Box<[u8]> = if key.is_empty() { [0].into() } else { key.into() };
        match range_end {
            [] => Ok(Self::One(start)),
            [0] => Ok(Self::Range { start, end: None }),
            end if &*start < end => Ok(Self::Range { start, end: Some(end.into()) }),
            _ => Err(EmptyRange),
        }
    }

    /// Bytes of what names them.
    pub fn bytes(&self) -> usize {
        match self {
            Self::One(key) => key.len(),
            Self::Range { start, end } => start.len() + end.as_ref().map_or(0, |end| end.len()),
        }
    }

    pub fn contain(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => &**one == key,
            Self::Range { start, end } => &**start <= key && end.as_ref().is_none_or(|end| key < &**end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_as_requests_name_them() {
        let one = |key: &[u8]| Ok(Keys::One(key.into()));
        let range = |start: &[u8], end: Option<&[u8]>| {
            Ok(Keys::Range { start: start.into(), end: end.map(Into::into) })
        };
        assert_eq!(Keys::new(b"a", b""), one(b"a"));
        assert_eq!(Keys::new(b"", b""), one(b"\0"));
        assert_eq!(Keys::new(b"", b"\0"), range(b"\0", None));
        assert_eq!(Keys::new(b"b", b"\0"), range(b"b", None));
        assert_eq!(Keys::new(b"a", b"b"), range(b"a", Some(b"b")));
        assert_eq!(Keys::new(b"b", b"b"), Err(EmptyRange));
        assert_eq!(Keys::new(b"b", b"a"), Err(EmptyRange));
    }
}
