//! Names of nodes, as etcd has them from a request's path (`path.Clean` of Go).

/// With a slash at the beginning and none at the end, without empty parts, dots and double dots; the root is empty.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut clean: Vec<u8> = Vec::with_capacity(path.len() + 1);
    for part in parts(path) {
        match part {
            b"." => {}
            b".." => clean.truncate(clean.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            part => {
                clean.push(b'/');
                clean.extend_from_slice(part);
            }
        }
    }
    clean
}

/// The names of a path from the root on.
pub fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
}

/// Whether a listing of its directory leaves it out.
pub fn is_hidden(name: &[u8]) -> bool {
    name.first() == Some(&b'_')
}

/// Whether who watches `above` does not see what happens at `key`, which is there or below.
pub fn is_hidden_below(above: &[u8], key: &[u8]) -> bool {
    key.get(above.len()..).is_some_and(|below| parts(below).any(is_hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_by_go() {
        for (path, cleaned) in [
            ("", ""),
            ("/", ""),
            ("//", ""),
            ("a", "/a"),
            ("/a/b/", "/a/b"),
            ("/a//b", "/a/b"),
            ("/a/./b/.", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../b/..", ""),
            ("/a/..b", "/a/..b"),
        ] {
            assert_eq!(clean(path.as_bytes()), cleaned.as_bytes(), "{path}");
        }
    }

    #[test]
    fn what_is_hidden_is_so_from_above() {
        assert!(is_hidden_below(b"", b"/_a"));
        assert!(is_hidden_below(b"/a", b"/a/_b/c"));
        assert!(!is_hidden_below(b"/a/_b", b"/a/_b/c"));
        assert!(!is_hidden_below(b"/_a", b"/_a"));
        assert!(!is_hidden_below(b"/a/b/c", b"/a"));
    }
}
