//! The outputs, shared by all threads.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Error, clock, line::Line, sampler::Sampler};
use crate::config::{self, LogFormat, LogLevel, LogOutput};

pub static WRITER: OnceLock<Writer> = OnceLock::new();

pub struct Writer {
    level: LogLevel,
    format: LogFormat,
    outputs: Vec<Output>,
    sampler: Sampler,
    /// Lines no output took; told with the next line that can be written.
    lost: AtomicU64,
}

enum Output {
    Stderr,
    Stdout,
    File(File),
}

impl Output {
    /// The whole line in one write where the system allows it, so that lines do not mix.
    fn write(&self, line: &str) -> io::Result<()> {
        match self {
            Output::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Output::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line.as_bytes())?;
                stdout.flush()
            }
            Output::File(file) => (&mut &*file).write_all(line.as_bytes()),
        }
    }
}

impl Writer {
    pub fn open(options: &config::Log) -> Result<Writer, Error> {
        let outputs = options.outputs.iter().map(|output| match output {
            LogOutput::Stderr => Ok(Output::Stderr),
            LogOutput::Stdout => Ok(Output::Stdout),
            LogOutput::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                file.map(Output::File)
                    .map_err(|source| Error::Open { path: path.display().to_string(), source })
            }
        });
        Ok(Writer {
            level: options.level,
            format: options.format,
            outputs: outputs.collect::<Result<_, _>>()?,
            sampler: Sampler::new(),
            lost: AtomicU64::new(0),
        })
    }

    pub fn admits(&self, level: LogLevel) -> bool {
        level >= self.level
    }

    pub fn write(&self, level: LogLevel, caller: &str, line: &Line) {
        let now = clock::now();
        if level < LogLevel::Fatal && !self.sampler.admit(line.message_text(), now.as_secs()) {
            return;
        }
        let time = clock::format(now);
        let mut text = String::with_capacity(256);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let mut note = Line::default();
            note.message(&format_args!("log lines were lost because an output failed"));
            note.plain("lines", lost);
            note.finish(self.format, LogLevel::Warn, &time, caller, &mut text);
        }
        line.finish(self.format, level, &time, caller, &mut text);
        for output in &self.outputs {
            if output.write(&text).is_err() {
                self.lost.fetch_add(lost + 1, Ordering::Relaxed);
            }
        }
    }

    /// One line, past all buffers and locks and without a time, whose form takes memory.
    pub fn last_words(&self, message: &[u8]) -> bool {
        let (before, after): (&[u8], &[u8]) = match self.format {
            LogFormat::Json => (b"{\"level\":\"fatal\",\"msg\":\"", b"\"}\n"),
            LogFormat::Console => (b"fatal\t", b"\n"),
        };
        let parts = [IoSlice::new(before), IoSlice::new(message), IoSlice::new(after)];
        let mut told = false;
        for output in &self.outputs {
            let written = match output {
                Output::Stderr => rustix::io::writev(rustix::stdio::stderr(), &parts),
                Output::Stdout => rustix::io::writev(rustix::stdio::stdout(), &parts),
                Output::File(file) => rustix::io::writev(file, &parts),
            };
            told |= written.is_ok();
        }
        told
    }
}
