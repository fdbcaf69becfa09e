//! Who this member is: derived from the flags at the first start, remembered from then on.
//!
//! ```text
//! <data-dir>/member/identity        pinion identity 1
//!                                   member 8e9e05c52164694d
//!                                   cluster cdf818194e3a8c32
//! ```

use std::{io, path::Path};

use super::StartError;
use crate::{
    config::{Bootstrap, Config},
    env::{Disk, DiskError, Env},
    types::{ClusterId, MemberId},
};

const HEADER: &str = "pinion identity 1";

/// The remembered identity, or a new one from the flags, made durable before it is used.
///
/// The data directory is locked by the caller.
pub async fn load_or_make<E: Env>(env: &E, config: &Config) -> Result<Bootstrap, StartError> {
    let path = config.data_dir.join("member").join("identity");
    match env.disk().read_small(&path).await {
        Ok(content) => parse(&String::from_utf8_lossy(&content))
            .ok_or_else(|| StartError::Identity { path: path.display().to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = config.bootstrap()?;
            write(env, &path, identity).await.map_err(|source| DiskError::from_io("write", &path, source))?;
            Ok(identity)
        }
        Err(source) => Err(DiskError::from_io("read", &path, source).into()),
    }
}

async fn write<E: Env>(env: &E, path: &Path, identity: Bootstrap) -> io::Result<()> {
    env.disk().write_small(path, format(identity).as_bytes()).await
}

fn format(identity: Bootstrap) -> String {
    format!("{HEADER}\nmember {:016x}\ncluster {:016x}\n", identity.member_id.0, identity.cluster_id.0)
}

fn parse(text: &str) -> Option<Bootstrap> {
    let number = |line: &str, name: &str| {
        let digits = line.strip_prefix(name)?;
        (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
    };
    let mut lines = text.lines();
    if lines.next()? != HEADER {
        return None;
    }
    let member_id = MemberId(number(lines.next()?, "member ")?);
    let cluster_id = ClusterId(number(lines.next()?, "cluster ")?);
    lines.next().is_none().then_some(Bootstrap { member_id, cluster_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let identity = Bootstrap { member_id: MemberId(1), cluster_id: ClusterId(u64::MAX) };
        let text = format(identity);
        assert_eq!(parse(&text), Some(identity));
        for end in 0..text.len() - 1 {
            assert_eq!(parse(&text[..end]), None, "{end}");
        }
        assert_eq!(parse(&format!("{text}more\n")), None);
    }
}
