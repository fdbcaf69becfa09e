//! Paths, queries and forms as Go reads them (`net/url` and `net/http`).

/// Pairs in order, those of the body before those of the query.
#[derive(Default)]
pub(super) struct Form(Vec<(Vec<u8>, Vec<u8>)>);

impl Form {
    /// The first of what is wrong is what is told.
    pub(super) fn parse(body: &[u8], query: &str) -> Result<Self, String> {
        let mut form = Self::default();
        form.take(body)?;
        form.take(query.as_bytes())?;
        Ok(form)
    }

    fn take(&mut self, text: &[u8]) -> Result<(), String> {
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            if pair.contains(&b';') {
                return Err("invalid semicolon separator in query".into());
            }
            let cut = pair.iter().position(|byte| *byte == b'=');
            let (key, value) = match cut {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &b""[..]),
            };
            self.0.push((unescape(key, true)?, unescape(value, true)?));
        }
        Ok(())
    }

    pub(super) fn first(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name.as_bytes())?;
        Some(value)
    }

    /// False if it is not there; an error if it is no such word (`strconv.ParseBool`).
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ()> {
        match self.first(name) {
            None => Ok(None),
            Some(b"1" | b"t" | b"T" | b"TRUE" | b"true" | b"True") => Ok(Some(true)),
            Some(b"0" | b"f" | b"F" | b"FALSE" | b"false" | b"False") => Ok(Some(false)),
            Some(_) => Err(()),
        }
    }

    /// 0 if it is not there (`strconv.ParseUint`).
    pub(super) fn number(&self, name: &str) -> Result<u64, ()> {
        let Some(digits) = self.first(name) else { return Ok(0) };
        let text = std::str::from_utf8(digits).map_err(|_| ())?;
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(());
        }
        text.parse().map_err(|_| ())
    }
}

/// A path without its escapes; none if they make no sense.
pub(super) fn path(escaped: &str) -> Option<Vec<u8>> {
    unescape(escaped.as_bytes(), false).ok()
}

fn unescape(text: &[u8], plus_is_space: bool) -> Result<Vec<u8>, String> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'%' => {
                let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                    let shown = [b"%", &after[..after.len().min(2)]].concat();
                    return Err(format!("invalid URL escape {:?}", String::from_utf8_lossy(&shown)));
                };
                plain.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            b'+' if plus_is_space => plain.push(b' '),
            byte => plain.push(*byte),
        }
    }
    Ok(plain)
}

/// As Go's `ServeMux` would have a path: a slash at its end stays.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut clean = crate::state::v2::clean(path);
    if clean.is_empty() || path.last() == Some(&b'/') {
        clean.push(b'/');
    }
    clean
}

/// A path as it stands in a URL.
pub(super) fn escape(path: &[u8]) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path {
        match byte {
            byte if byte.is_ascii_alphanumeric() => escaped.push(char::from(*byte)),
            b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'@' => {
                escaped.push(char::from(*byte));
            }
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_are_read_as_by_go() {
        let form =
            Form::parse(b"value=a+b%26&dir&ttl=5&ttl=6", "value=other&recursive=T&wait=2").expect("a form");
        assert_eq!(form.first("value"), Some(&b"a b&"[..]));
        assert_eq!((form.first("dir"), form.first("none")), (Some(&b""[..]), None));
        assert_eq!((form.number("ttl"), form.number("none"), form.number("value")), (Ok(5), Ok(0), Err(())));
        assert_eq!(form.flag("recursive"), Ok(Some(true)));
        assert_eq!((form.flag("none"), form.flag("dir"), form.flag("wait")), (Ok(None), Err(()), Err(())));
        for (text, wrong) in [
            ("a=%zz", "invalid URL escape \"%zz\""),
            ("a=%2", "invalid URL escape \"%2\""),
            ("%=a", "invalid URL escape \"%\""),
            ("a;b", "invalid semicolon separator in query"),
        ] {
            assert_eq!(Form::parse(text.as_bytes(), "").err().as_deref(), Some(wrong), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(body: Vec<u8>, query in ".*") {
            if let Ok(form) = Form::parse(&body, &query) {
                prop_assert!(form.0.len() <= 2 + body.iter().chain(query.as_bytes()).filter(|byte| **byte == b'&').count());
            }
        }

        #[test]
        fn a_path_survives_its_escapes(plain: Vec<u8>) {
            prop_assert_eq!(path(&escape(&plain)), Some(plain));
        }
    }
}
