//! Who the member is: `member/identity`.
//!
//! Written at the end of a member's first start, once its log exists: with it, everything else must be there. Never
//! changed afterwards.

use std::{io, path::Path};

use super::{DataDirError, VERSION, note};
use crate::{
    env::{Disk, Env},
    types::{ClusterId, MemberId},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub member: MemberId,
    pub cluster: ClusterId,
}

impl Identity {
    /// None if the member was never started to the end.
    pub async fn read<E: Env>(env: &E, path: &Path) -> Result<Option<Self>, DataDirError> {
        match env.disk().read_small(path).await {
            Ok(content) => Self::parse(&content).map(Some).map_err(|fault| DataDirError::of(path, fault)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DataDirError::from_io("read", path, error)),
        }
    }

    pub async fn write<E: Env>(&self, env: &E, path: &Path) -> Result<(), DataDirError> {
        let text = note::write("identity", VERSION, &self.lines());
        let written = env.disk().write_small(path, text.as_bytes()).await;
        written.map_err(|e| DataDirError::from_io("write", path, e))
    }

    fn lines(&self) -> [(&'static str, String); 2] {
        [("member", note::id(self.member.0)), ("cluster", note::id(self.cluster.0))]
    }

    fn parse(content: &[u8]) -> Result<Self, note::Fault> {
        let [member, cluster] = note::read(content, "identity", VERSION, ["member", "cluster"])?;
        let (member, cluster) = (note::parse_id(member)?, note::parse_id(cluster)?);
        Ok(Self { member: MemberId(member), cluster: ClusterId(cluster) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let identity = Identity { member: MemberId(1), cluster: ClusterId(u64::MAX) };
        let text = note::write("identity", VERSION, &identity.lines());
        assert_eq!(Identity::parse(text.as_bytes()), Ok(identity));
        let old = "pinion identity 1\nmember 0000000000000001\ncluster 0000000000000001\n";
        assert_eq!(Identity::parse(old.as_bytes()), Err(note::Fault::Version("1".to_owned())));
    }
}
