//! What a failing disk does to a mapped file: the kernel cannot bring the page in, and sends SIGBUS.
//!
//! The handler says which file it was and where, which the kernel's own list of mappings tells, and lets the process
//! end. It allocates nothing and takes no lock.

use std::{io, mem::MaybeUninit};

use libc::siginfo_t;
use rustix::fs::{CWD, Mode, OFlags};
use signal_hook::{consts::SIGBUS, low_level};

const MAPPINGS: &std::ffi::CStr = c"/proc/self/maps";
/// Longer paths are cut.
const PATH_BYTES: usize = 1024;
const LINE_BYTES: usize = 2048;

/// Lets such an end of the process say why: `say` gets a message, in a signal handler, and tells whether anybody
/// heard it. Call it once, before files are mapped.
pub fn explain_faults(say: fn(&[u8]) -> bool) -> io::Result<()> {
    let end = move |info: &siginfo_t| {
        let mut words = Words::default();
        // Above zero are the kernel's reasons, below it those of whoever sent the signal.
        if info.si_code > 0 {
            // SAFETY: of a SIGBUS from the kernel.
            explain(unsafe { info.si_addr() } as usize, &mut words);
        } else {
            words.add(b"received signal: bus error");
        }
        let said = say(words.bytes());
        if !said || low_level::emulate_default_handler(SIGBUS).is_err() {
            low_level::abort();
        }
    };
    // SAFETY: system calls, and functions that are made for signal handlers. The signal is the core's or the helper
    // thread's own fault, so no other code of theirs goes on meanwhile.
    unsafe { signal_hook_registry::register_sigaction(SIGBUS, end) }.map(drop)
}

fn explain(address: usize, words: &mut Words) {
    let mut mapped = Mapped::new(address);
    if mapped.find() {
        words.add(b"cannot read ");
        words.add_path(&mapped.path[..mapped.path_len]);
        words.add(b" at offset ");
        words.add_number(mapped.offset);
    } else {
        words.add(b"a mapped file cannot be read");
    }
    words.add(
        b": the disk failed there, or the file was cut short. See dmesg: after read errors the disk is broken, and this \
        member has to be restored from a backup on another one; without any, a start verifies every file and names what \
        is damaged",
    );
}

/// A message while it is gathered; what does not fit is dropped.
struct Words {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Default for Words {
    fn default() -> Self {
        Self { bytes: [0; LINE_BYTES], len: 0 }
    }
}

impl Words {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn add(&mut self, text: &[u8]) {
        let count = text.len().min(LINE_BYTES - self.len);
        self.bytes[self.len..self.len + count].copy_from_slice(&text[..count]);
        self.len += count;
    }

    /// What would end a line or a text of the log is not shown.
    fn add_path(&mut self, path: &[u8]) {
        for byte in path {
            let shown = if matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f) { b'?' } else { *byte };
            self.add(&[shown]);
        }
    }

    fn add_number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.add(&digits[at..]);
    }
}

/// What is mapped at an address.
struct Mapped {
    address: usize,
    /// The part of the line of the list that is being read: range, rights, offset, device, inode, path.
    field: usize,
    start: usize,
    end: usize,
    /// In the file: first of the mapping, then of the address.
    offset: u64,
    path: [u8; PATH_BYTES],
    path_len: usize,
}

impl Mapped {
    const RANGE_END: usize = 1;
    const OFFSET: usize = 3;
    const PATH: usize = 6;

    fn new(address: usize) -> Self {
        Self { address, field: 0, start: 0, end: 0, offset: 0, path: [0; PATH_BYTES], path_len: 0 }
    }

    /// False if nothing is known of it.
    fn find(&mut self) -> bool {
        let Ok(list) = rustix::fs::openat(CWD, MAPPINGS, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        else {
            return false;
        };
        let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
        loop {
            match rustix::io::read(&list, &mut buffer) {
                Ok(([], _)) => return false,
                Ok((bytes, _)) => {
                    if bytes.iter().any(|byte| self.take(*byte)) {
                        return true;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Whether the byte ends the line that was looked for.
    fn take(&mut self, byte: u8) -> bool {
        let digit = char::from(byte).to_digit(16);
        match (self.field, byte) {
            (_, b'\n') => {
                if (self.start..self.end).contains(&self.address) && self.path_len > 0 {
                    self.offset += (self.address - self.start) as u64;
                    return true;
                }
                *self = Self::new(self.address);
            }
            (0, b'-') => self.field = Self::RANGE_END,
            (Self::PATH, b' ') if self.path_len == 0 => {}
            (Self::PATH, byte) if self.path_len < PATH_BYTES => {
                self.path[self.path_len] = byte;
                self.path_len += 1;
            }
            (Self::PATH, _) => {}
            (_, b' ') => self.field += 1,
            (0, _) => self.start = self.start << 4 | digit.unwrap_or(0) as usize,
            (Self::RANGE_END, _) => self.end = self.end << 4 | digit.unwrap_or(0) as usize,
            (Self::OFFSET, _) => self.offset = self.offset << 4 | u64::from(digit.unwrap_or(0)),
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    #[test]
    fn the_file_and_the_offset_are_found() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&[1; 5 * 4096]).expect("writable");
        // SAFETY: nobody else has the file.
        let map = unsafe { memmap2::MmapOptions::new().offset(4096).map(file.as_file()) }.expect("a mapping");
        let mut words = Words::default();
        explain(map.as_ptr() as usize + 8193, &mut words);
        let words = String::from_utf8(words.bytes().to_vec()).expect("text");
        let path = fs::canonicalize(file.path()).expect("it is there");
        let expected =
            format!("cannot read {} at offset {}: the disk failed there", path.display(), 4096 + 8193);
        assert!(words.starts_with(&expected), "{words}");
        assert!(words.ends_with("names what is damaged"), "{words}");
    }

    #[test]
    fn where_nothing_is_mapped_no_file_is_named() {
        let mut words = Words::default();
        explain(1, &mut words);
        assert!(words.bytes().starts_with(b"a mapped file cannot be read: "));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_what_would_break_a_line_is_not_shown() {
        let mut words = Words::default();
        words.add_path(b"/a\"b\\c\n");
        words.add_number(0);
        words.add_number(u64::MAX);
        assert_eq!(words.bytes(), b"/a?b?c?018446744073709551615");
        words.add(&[b'x'; 2 * LINE_BYTES]);
        assert_eq!(words.bytes().len(), LINE_BYTES);
    }
}
