//! Rust text as tokens: enough to find paths and `mod` lines, without what stands in comments.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    Word(&'a str),
    /// What stands between the quotes of a string.
    Text(&'a str),
    /// `::`, or a character.
    Mark(&'a str),
}

pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, length) = next(rest, first);
        tokens.extend(token);
        rest = &rest[length..];
    }
    tokens
}

/// The token at the beginning, if it is one, and the bytes it takes.
fn next(rest: &str, first: char) -> (Option<Token<'_>>, usize) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word = |from: usize| rest[from..].find(|c| !is_word(c)).map_or(rest.len(), |length| from + length);
    if rest.starts_with("//") {
        return (None, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (None, rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if let Some((from, to, length)) = string(rest) {
        return (Some(Token::Text(&rest[from..to])), length);
    }
    if let Some(inner) = rest.strip_prefix('\'') {
        let mut inside = inner.chars();
        let (one, two) = (inside.next(), inside.next());
        return match (one, two) {
            (Some('\\'), Some(escaped)) => {
                let skipped = 2 + escaped.len_utf8();
                (None, rest[skipped..].find('\'').map_or(rest.len(), |end| skipped + end + 1))
            }
            (Some(character), Some('\'')) => (None, 2 + character.len_utf8()),
            // A lifetime.
            _ => (None, word(1)),
        };
    }
    if rest.starts_with("r#") {
        return (Some(Token::Word(&rest[2..word(2)])), word(2));
    }
    if is_word(first) {
        return (Some(Token::Word(&rest[..word(0)])), word(0));
    }
    let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
    ((!first.is_whitespace()).then_some(Token::Mark(&rest[..length])), length)
}

/// A string literal at the beginning: where its text begins and ends, and its length.
fn string(rest: &str) -> Option<(usize, usize, usize)> {
    let quoted = rest.strip_prefix('b').unwrap_or(rest);
    let prefix = rest.len() - quoted.len();
    if let Some(raw) = quoted.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let body = raw[hashes..].strip_prefix('"')?;
        let from = prefix + 1 + hashes + 1;
        let to = from + body.find(&format!("\"{}", "#".repeat(hashes)))?;
        return Some((from, to, to + 1 + hashes));
    }
    let body = quoted.strip_prefix('"')?;
    let mut escaped = false;
    let end = body.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((prefix + 1, prefix + 1 + end, prefix + 1 + end + 1))
}

#[test]
fn comments_and_literals_hide_what_is_in_them() {
    let text = r###"a::b // c::d
        /* e */ "f \" g" r#"h " i"# 'j' '\'' '"' &'k l r#type b"m" '::'"###;
    let shown = tokens(text).into_iter().map(|token| match token {
        Token::Word(text) | Token::Mark(text) => text.to_owned(),
        Token::Text(text) => format!("<{text}>"),
    });
    let shown = shown.collect::<Vec<_>>().join(" ");
    assert!(shown.starts_with("a :: b <f \\\" g> <h \" i> & l type <m>"), "{shown}");
}
