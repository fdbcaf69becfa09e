//! Small text files that say something once and for all: a title, a line for each thing, a checksum.
//!
//! ```text
//! pinion identity 3
//! member 8e9e05c52164694d
//! cluster cdf818194e3a8c32
//! checksum 2f1d5c07
//! ```
//! Pure. Readable for people, and every changed byte is noticed.

/// The checksum is the last line, crc32c of all before it.
const CHECKSUM: &str = "checksum ";

/// Why a file does not say what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Damaged,
    /// Of another version: what follows the title's name.
    Version(String),
}

/// The whole file.
pub fn write(name: &str, version: u32, lines: &[(&str, String)]) -> String {
    let mut text = format!("pinion {name} {version}\n");
    for (key, value) in lines {
        assert!(!value.contains('\n'), "{key} is one line");
        text.push_str(&format!("{key} {value}\n"));
    }
    let checksum = crc32c::crc32c(text.as_bytes());
    text + &format!("{CHECKSUM}{checksum:08x}\n")
}

/// The values of the lines, which have these keys in this order.
pub fn read<'a, const N: usize>(
    content: &'a [u8],
    name: &str,
    version: u32,
    keys: [&str; N],
) -> Result<[&'a str; N], Fault> {
    let text = std::str::from_utf8(content).map_err(|_| Fault::Damaged)?;
    let (title, _) = text.split_once('\n').ok_or(Fault::Damaged)?;
    let found = title.strip_prefix(&format!("pinion {name} ")).ok_or(Fault::Damaged)?;
    if found != version.to_string() && found.bytes().all(|byte| byte.is_ascii_digit()) && !found.is_empty() {
        return Err(Fault::Version(found.chars().take(32).collect()));
    }
    let at = text.rfind(CHECKSUM).ok_or(Fault::Damaged)?;
    let (body, checksum) = text.split_at(at);
    if checksum != format!("{CHECKSUM}{:08x}\n", crc32c::crc32c(body.as_bytes())) {
        return Err(Fault::Damaged);
    }
    let mut lines = body.lines().skip(1);
    let mut values = [""; N];
    for (value, key) in values.iter_mut().zip(keys) {
        let line = lines.next().ok_or(Fault::Damaged)?;
        *value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' ')).ok_or(Fault::Damaged)?;
    }
    match lines.next() {
        None => Ok(values),
        Some(_) => Err(Fault::Damaged),
    }
}

/// A number as [`id`] writes it.
pub fn parse_id(digits: &str) -> Result<u64, Fault> {
    let number = u64::from_str_radix(digits, 16).map_err(|_| Fault::Damaged)?;
    if id(number) == digits { Ok(number) } else { Err(Fault::Damaged) }
}

pub fn id(number: u64) -> String {
    format!("{number:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        write("thing", 3, &[("one", id(1)), ("two", "a b".to_owned())])
    }

    #[test]
    fn what_is_written_is_read() {
        let text = text();
        assert_eq!(read(text.as_bytes(), "thing", 3, ["one", "two"]), Ok(["0000000000000001", "a b"]));
        assert_eq!(parse_id("0000000000000001"), Ok(1));
        assert_eq!(parse_id("1"), Err(Fault::Damaged));
    }

    #[test]
    fn no_changed_missing_or_added_byte_is_taken() {
        let text = text();
        for at in 0..text.len() {
            for flip in [1, 2, 0x20, 0x80] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= flip;
                // A digit of the version may become another digit.
                let read = read(&bytes, "thing", 3, ["one", "two"]);
                let version = matches!(&read, Err(Fault::Version(_))) && at == "pinion thing ".len();
                assert!(version || read == Err(Fault::Damaged), "byte {at} {flip:#x}: {read:?}");
            }
            assert_eq!(read(&text.as_bytes()[..at], "thing", 3, ["one", "two"]), Err(Fault::Damaged), "{at}");
        }
        let more = format!("{text}\n");
        assert_eq!(read(more.as_bytes(), "thing", 3, ["one", "two"]), Err(Fault::Damaged));
        assert_eq!(read(&vec![0; text.len()], "thing", 3, ["one", "two"]), Err(Fault::Damaged));
    }

    #[test]
    fn it_is_what_was_asked_for() {
        let text = text();
        assert_eq!(read(text.as_bytes(), "other", 3, ["one", "two"]), Err(Fault::Damaged));
        assert_eq!(read(text.as_bytes(), "thing", 3, ["one"]), Err(Fault::Damaged));
        assert_eq!(read(text.as_bytes(), "thing", 3, ["two", "one"]), Err(Fault::Damaged));
        assert_eq!(read(text.as_bytes(), "thing", 4, ["one", "two"]), Err(Fault::Version("3".to_owned())));
    }
}
