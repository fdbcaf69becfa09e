//! The command line, in the syntax of Go's `flag` package: one or two dashes, `--flag value` or
//! `--flag=value`, switches alone or with `=value`, and nothing but flags.

use std::ffi::OsString;

use super::{
    Error, Notice,
    flags::{self, SPECIAL},
    settings::Settings,
    value,
};

/// What the flags that come before all others say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Special {
    pub help: bool,
    pub version: bool,
    pub config_file: Option<String>,
}

/// Reads the arguments behind the program's name.
pub fn parse(
    args: &[OsString],
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Result<Special, Error> {
    let mut special = Special::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let arg = utf8(arg)?;
        let Some((name, inline)) = split(arg)? else {
            // `--` ends the flags, a bare word does too; neither may be followed or be anything.
            let word = if arg == "--" { args.next().map(utf8).transpose()? } else { Some(arg) };
            return match word {
                Some(word) => Err(Error::Refused(format!("{word:?} is not a valid flag"))),
                None => Ok(special),
            };
        };
        let Some(is_switch) = is_switch(name) else {
            if name == "help" || name == "h" {
                special.help = true;
                return Ok(special);
            }
            return Err(Error::Usage(format!("flag provided but not defined: -{name}")));
        };
        let text = match inline {
            Some(text) => text,
            None if is_switch => "true",
            None => match args.next() {
                Some(text) => utf8(text)?,
                None => return Err(Error::Usage(format!("flag needs an argument: -{name}"))),
            },
        };
        apply(name, text, &mut special, settings, notices).map_err(|reason| {
            Error::Usage(if is_switch {
                format!("invalid boolean value {text:?} for -{name}: {reason}")
            } else {
                format!("invalid value {text:?} for flag -{name}: {reason}")
            })
        })?;
    }
    Ok(special)
}

fn apply(
    name: &str,
    text: &str,
    special: &mut Special,
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Result<(), String> {
    if name == "config-file" {
        special.config_file = Some(text.to_string());
        return Ok(());
    }
    if name == "version" {
        special.version = value::parse_bool(text).ok_or("parse error")?;
        return Ok(());
    }
    if let Some(flag) = flags::find(name) {
        return settings.set(flag, text);
    }
    if let Some(result) = settings.set_renamed(name, text, notices) {
        return result;
    }
    notices.push(Notice::warn("flag is no longer supported - ignoring").with("flag-name", name));
    Ok(())
}

/// Whether the flag may stand without a value; `None` if there is no such flag.
fn is_switch(name: &str) -> Option<bool> {
    if flags::IGNORED.contains(&name) {
        return Some(true);
    }
    if let Some(flag) = flags::find(name).or_else(|| SPECIAL.iter().find(|flag| flag.name == name)) {
        return Some(flag.kind.is_switch());
    }
    Some(match flags::renamed(name)? {
        flags::Renamed::Flag(today) => flags::find(today)?.kind.is_switch(),
        flags::Renamed::Gate(_) => true,
    })
}

/// Name and inline value of a flag; `None` for what ends the flags.
fn split(arg: &str) -> Result<Option<(&str, Option<&str>)>, Error> {
    let Some(rest) = arg.strip_prefix('-').filter(|rest| !rest.is_empty()) else { return Ok(None) };
    let rest = match rest.strip_prefix('-') {
        Some("") => return Ok(None),
        Some(rest) => rest,
        None => rest,
    };
    if rest.starts_with(['-', '=']) {
        return Err(Error::Usage(format!("bad flag syntax: {arg}")));
    }
    Ok(Some(match rest.split_once('=') {
        Some((name, text)) => (name, Some(text)),
        None => (rest, None),
    }))
}

fn utf8(arg: &OsString) -> Result<&str, Error> {
    arg.to_str().ok_or_else(|| Error::Usage(format!("argument is not UTF-8: {}", arg.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> (Settings, Vec<Notice>, Result<Special, Error>) {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let (mut settings, mut notices) = (Settings::new(), Vec::new());
        let result = parse(&args, &mut settings, &mut notices);
        (settings, notices, result)
    }

    #[test]
    fn every_spelling_of_go() {
        let (settings, _, result) =
            run(&["-name", "a", "--pre-vote=false", "--unsafe-no-fsync", "-max-txn-ops=0x10"]);
        assert_eq!(result, Ok(Special::default()));
        assert_eq!(settings.text("name"), "a");
        assert!(!settings.bool("pre-vote") && settings.bool("unsafe-no-fsync"));
        assert_eq!(settings.uint("max-txn-ops"), 16);
        assert!(settings.is_explicit("name") && !settings.is_explicit("data-dir"));
        let (settings, _, result) = run(&["--name=a", "--name", "--data-dir", "--"]);
        assert_eq!(result, Ok(Special::default()));
        assert_eq!(settings.text("name"), "--data-dir");
    }

    #[test]
    fn refusals_with_the_texts_of_go() {
        for (args, message) in [
            (&["--nosuch=1"][..], "flag provided but not defined: -nosuch"),
            (&["--name"], "flag needs an argument: -name"),
            (&["--=x"], "bad flag syntax: --=x"),
            (&["---name"], "bad flag syntax: ---name"),
            (&["--pre-vote=foo"], "invalid boolean value \"foo\" for -pre-vote: parse error"),
            (&["--max-txn-ops", "-1"], "invalid value \"-1\" for flag -max-txn-ops: parse error"),
            (
                &["--quota-backend-bytes=99999999999999999999"],
                "invalid value \"99999999999999999999\" for flag -quota-backend-bytes: value out of range",
            ),
            (
                &["--initial-cluster-state=foo"],
                "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
            ),
            (
                &["--v2-deprecation=bar"],
                "invalid value \"bar\" for flag -v2-deprecation: invalid value \"bar\"",
            ),
        ] {
            assert_eq!(run(args).2, Err(Error::Usage(message.to_string())));
        }
        for args in [&["extra"][..], &["--", "extra"], &["--pre-vote", "extra", "--nosuch"]] {
            assert_eq!(run(args).2, Err(Error::Refused("\"extra\" is not a valid flag".to_string())));
        }
    }

    #[test]
    fn old_names_are_followed_with_a_warning() {
        let (settings, notices, result) =
            run(&["--experimental-max-learners=1", "--experimental-initial-corrupt-check", "--snapshot"]);
        assert_eq!(result, Ok(Special::default()));
        assert_eq!(settings.gates(), [("InitialCorruptCheck".to_string(), true)]);
        assert_eq!(notices.len(), 3);
        assert_eq!(notices[0].message, "--experimental-max-learners is deprecated, use --max-learners");
    }
}
