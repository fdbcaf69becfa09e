//! The YAML (or JSON) file: flag names as keys, etcd's few nested groups, and etcd's types: numbers
//! unquoted, durations as whole nanoseconds, lists of URLs as one comma-separated text. Like etcd's reader it is one of
//! YAML 1.1, where `yes` and `off` are booleans.

use serde_norway::{Mapping, Value as Yaml};

use super::{
    Error, Notice,
    flags::{self, Flag, Renamed},
    settings::{Settings, renamed_notice},
    value::{Kind, Value},
    yaml,
};

/// Larger files are not configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The further words for true and for false.
const BOOLS: [[&str; 8]; 2] =
    [["y", "Y", "yes", "Yes", "YES", "on", "On", "ON"], ["n", "N", "no", "No", "NO", "off", "Off", "OFF"]];

/// A nested group: key in the file, and which flag each of its keys is.
type Group = (&'static str, &'static [(&'static str, &'static str)]);

const GROUPS: [Group; 6] = [
    (
        "client-transport-security",
        &[
            ("cert-file", "cert-file"),
            ("key-file", "key-file"),
            ("client-cert-file", "client-cert-file"),
            ("client-key-file", "client-key-file"),
            ("client-cert-auth", "client-cert-auth"),
            ("trusted-ca-file", "trusted-ca-file"),
            ("auto-tls", "auto-tls"),
            ("allowed-hostname", "client-cert-allowed-hostname"),
        ],
    ),
    (
        "peer-transport-security",
        &[
            ("cert-file", "peer-cert-file"),
            ("key-file", "peer-key-file"),
            ("client-cert-file", "peer-client-cert-file"),
            ("client-key-file", "peer-client-key-file"),
            ("client-cert-auth", "peer-client-cert-auth"),
            ("trusted-ca-file", "peer-trusted-ca-file"),
            ("auto-tls", "peer-auto-tls"),
            ("allowed-cn", "peer-cert-allowed-cn"),
            ("allowed-hostname", "peer-cert-allowed-hostname"),
            ("skip-client-san-verification", "peer-skip-client-san-verification"),
        ],
    ),
    ("socket-options", &[("reuse-port", "socket-reuse-port"), ("reuse-address", "socket-reuse-address")]),
    ("discovery-config", &[("token", "discovery-token")]),
    (
        "discovery-config.client",
        &[
            ("endpoints", "discovery-endpoints"),
            ("dial-timeout", "discovery-dial-timeout"),
            ("request-timeout", "discovery-request-timeout"),
            ("keepalive-time", "discovery-keepalive-time"),
            ("keepalive-timeout", "discovery-keepalive-timeout"),
        ],
    ),
    (
        "discovery-config.client.secure",
        &[
            ("cert", "discovery-cert"),
            ("key", "discovery-key"),
            ("cacert", "discovery-cacert"),
            ("insecure-transport", "discovery-insecure-transport"),
            ("insecure-skip-tls-verify", "discovery-insecure-skip-tls-verify"),
        ],
    ),
];

/// Reads the file at `path` into the settings.
pub fn load(path: &str, settings: &mut Settings, notices: &mut Vec<Notice>) -> Result<(), Error> {
    let refuse = |why: &str| Error::Refused(format!("open {path}: {why}"));
    let size = std::fs::metadata(path).map_err(|error| refuse(&reason(&error)))?.len();
    if size > FILE_BYTES_MAX {
        return Err(refuse(&format!(
            "the file has {size} bytes, a configuration has at most {FILE_BYTES_MAX}"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refuse(&reason(&error)))?;
    // Editors on Windows begin a text with a byte order mark.
    parse(text.strip_prefix('\u{feff}').unwrap_or(&text), settings, notices)
        .map_err(|error| Error::Refused(format!("{path}: {error}")))
}

/// Go's words for the two failures that happen.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_string(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_string(),
        _ => error.to_string(),
    }
}

fn parse(text: &str, settings: &mut Settings, notices: &mut Vec<Notice>) -> Result<(), String> {
    let document = yaml::parse(text).map_err(|error| format!("error converting YAML to JSON: {error}"))?;
    match document {
        Yaml::Null => Ok(()),
        Yaml::Mapping(mapping) => read(&mapping, "", settings, notices),
        _ => Err("error unmarshaling JSON: the file must hold names and values".to_string()),
    }
}

fn read(
    mapping: &Mapping,
    group: &str,
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Result<(), String> {
    for (key, value) in mapping {
        let Yaml::String(key) = key else {
            return Err(format!("error unmarshaling JSON: key {key:?} is not a text"));
        };
        let path = if group.is_empty() { key.clone() } else { format!("{group}.{key}") };
        // As in Go's JSON decoder, null changes nothing.
        if value.is_null() {
            continue;
        }
        if GROUPS.iter().any(|(name, _)| same(name, &path)) {
            match value {
                Yaml::Mapping(inner) => read(inner, &path.to_ascii_lowercase(), settings, notices)?,
                _ => return Err(format!("invalid {path}")),
            }
            continue;
        }
        let name = if group.is_empty() {
            Some(key.as_str())
        } else {
            let keys = GROUPS.iter().find(|(name, _)| same(name, group)).map_or(&[][..], |(_, keys)| keys);
            keys.iter().find(|(inner, _)| same(inner, key)).map(|(_, flag)| *flag)
        };
        let flag = name.and_then(|name| flags::all().find(|flag| same(flag.name, name)));
        match (flag, name) {
            (Some(flag), _) => settings.set_value(flag, convert(flag, &path, value)?),
            (None, Some(name)) if flags::renamed(name).is_some() => {
                // A number has the unit it has in a file, a text is read as on the command line.
                if let (Some(Renamed::Flag(today)), Yaml::Number(_)) = (flags::renamed(name), value) {
                    let flag = flags::find(today).expect("what was renamed is a flag");
                    notices.push(renamed_notice(name, &format!("--{today}")));
                    settings.set_value(flag, convert(flag, &path, value)?);
                } else if let Some(result) = settings.set_renamed(name, &plain(&path, value)?, notices) {
                    result.map_err(|reason| format!("{path}: {reason}"))?;
                }
            }
            _ => notices.push(
                Notice::warn("unrecognized key in the configuration file, it is ignored").with("key", path),
            ),
        }
    }
    Ok(())
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn convert(flag: &'static Flag, path: &str, value: &Yaml) -> Result<Value, String> {
    let want = |what: &str| Err(format!("error unmarshaling JSON: {path} must be {what}"));
    match (flag.kind, value) {
        (Kind::Bool, Yaml::Bool(value)) => Ok(Value::Bool(*value)),
        (Kind::Bool, Yaml::String(word)) if BOOLS.iter().any(|words| words.contains(&&word[..])) => {
            Ok(Value::Bool(BOOLS[0].contains(&&word[..])))
        }
        (Kind::Bool, _) => want("true or false, without quotes"),
        (Kind::Uint, Yaml::Number(number)) => match number.as_u64() {
            Some(number) => Ok(Value::Uint(number)),
            None => want("a whole number that is not negative"),
        },
        (Kind::Uint32, Yaml::Number(number)) => match number.as_u64().filter(|n| u32::try_from(*n).is_ok()) {
            Some(number) => Ok(Value::Uint(number)),
            None => want("a whole number below 4294967296"),
        },
        (Kind::Uint | Kind::Uint32, _) => want("a number, without quotes"),
        (Kind::Int, Yaml::Number(number)) => match number.as_i64() {
            Some(number) => Ok(Value::Int(number)),
            None => want("a whole number"),
        },
        (Kind::Int, _) => want("a number, without quotes"),
        (Kind::Duration, Yaml::Number(number)) => match number.as_i64() {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => want("a whole number of nanoseconds"),
        },
        (Kind::Duration, _) => want("a whole number of nanoseconds, such as 300000000 for 300ms"),
        // Lists of words are lists in the file, save for those that are one text in etcd too.
        (Kind::Set | Kind::List, Yaml::Sequence(items)) if flag.name != "host-whitelist" => {
            let words: Result<Vec<String>, String> = items.iter().map(|item| plain(path, item)).collect();
            Ok(Value::List(words?))
        }
        (Kind::Set | Kind::List, _) if flag.name != "host-whitelist" && flag.name != "cores" => {
            want("a list of texts")
        }
        (kind, value) => {
            let text = plain(path, value)?;
            kind.parse(&text).map_err(|reason| format!("invalid value {text:?} for {path}: {reason}"))
        }
    }
}

/// A text; numbers and booleans are taken as they are written.
fn plain(path: &str, value: &Yaml) -> Result<String, String> {
    match value {
        Yaml::String(text) => Ok(text.clone()),
        Yaml::Bool(value) => Ok(value.to_string()),
        Yaml::Number(number) => Ok(number.to_string()),
        _ => Err(format!("error unmarshaling JSON: {path} must be a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> (Settings, Vec<Notice>, Result<(), String>) {
        let (mut settings, mut notices) = (Settings::new(), Vec::new());
        let result = parse(text, &mut settings, &mut notices);
        (settings, notices, result)
    }

    #[test]
    fn reads_etcds_sample_shapes() {
        let (settings, notices, result) = run("\
name: 5
data-dir:
heartbeat-interval: 200
grpc-keepalive-min-time: 5000000000
listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
log-outputs: [stderr]
Max-Txn-Ops: 7
peer-transport-security:
  cert-file: a
  client-cert-auth: true
socket-options: { reuse-port: true }
discovery-config: { client: { secure: { cert: c } } }
experimental-initial-corrupt-check: true
experimental-corrupt-check-time: 10800000000000
experimental-watch-progress-notify-interval: 5s
pre-vote: off
nonsense: 1
");
        assert_eq!(result, Ok(()));
        assert_eq!((settings.text("name"), settings.text("data-dir")), ("5", ""));
        assert_eq!((settings.uint("heartbeat-interval"), settings.uint("max-txn-ops")), (200, 7));
        assert_eq!(settings.duration("grpc-keepalive-min-time"), 5_000_000_000);
        assert_eq!(settings.urls("listen-client-urls").len(), 2);
        assert_eq!(settings.list("log-outputs"), ["stderr"]);
        assert_eq!(settings.text("peer-cert-file"), "a");
        assert!(settings.bool("peer-client-cert-auth") && settings.bool("socket-reuse-port"));
        assert_eq!(settings.text("discovery-cert"), "c");
        assert!(super::super::gates::is_enabled(settings.gates(), "InitialCorruptCheck"));
        assert_eq!(settings.duration("corrupt-check-time"), 3 * 3_600_000_000_000);
        assert_eq!(settings.duration("watch-progress-notify-interval"), 5_000_000_000);
        assert!(!settings.bool("pre-vote"));
        assert_eq!(notices.len(), 4);
    }

    #[test]
    fn refuses_wrong_types() {
        for (text, part) in [
            ("heartbeat-interval: \"100\"", "heartbeat-interval must be a number"),
            ("heartbeat-interval: -1", "not negative"),
            ("pre-vote: yes please", "pre-vote must be true or false"),
            ("warning-apply-duration: 100ms", "nanoseconds"),
            ("listen-client-urls: 127.0.0.1:2379", "first path segment"),
            ("log-outputs: stderr", "list of texts"),
            ("peer-transport-security: 1", "invalid peer-transport-security"),
            ("- a", "names and values"),
            ("a: [", "error converting YAML to JSON"),
        ] {
            let error = run(text).2.unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
