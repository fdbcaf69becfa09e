//! `ETCD_*` variables: below the command line, and never in silent conflict with it.

use super::{
    Error, Notice,
    flags::{self, variable},
    settings::Settings,
};

/// Applies the variables to what the command line left open.
///
/// As in etcd, a variable for a flag that is also on the command line stops the start, an unknown
/// `ETCD_` variable is only warned about, and an empty one counts as unknown.
pub fn apply(
    variables: &[(String, String)],
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Result<(), Error> {
    let shadowed: Vec<String> =
        flags::all().filter(|flag| settings.is_explicit(flag.name)).map(|flag| variable(flag.name)).collect();
    let mut result = Ok(());
    let mut warnings = Vec::new();
    for (key, text) in variables {
        if key == "ETCD_VERSION" && !text.is_empty() {
            warnings.push(
                Notice::warn("cannot set special environment variable").with("key", key).with("value", text),
            );
            continue;
        }
        if shadowed.contains(key) {
            notices.append(&mut warnings);
            return Err(Error::Shadowed { variable: key.clone() });
        }
        match set(key, text, settings, notices) {
            Some(Ok(())) => notices.push(
                Notice::info("recognized and used environment variable")
                    .with("variable-name", key)
                    .with("variable-value", text),
            ),
            Some(Err(reason)) => {
                result = Err(Error::Refused(format!("invalid value {text:?} for {key}: {reason}")));
            }
            None if key.starts_with("ETCD_") => warnings.push(
                Notice::warn("unrecognized environment variable")
                    .with("environment-variable", format!("{key}={text}")),
            ),
            None => {}
        }
    }
    notices.append(&mut warnings);
    result
}

fn set(
    key: &str,
    text: &str,
    settings: &mut Settings,
    notices: &mut Vec<Notice>,
) -> Option<Result<(), String>> {
    let name = key.strip_prefix("ETCD_").filter(|_| !text.is_empty())?;
    if let Some(flag) = flags::all().find(|flag| variable(flag.name) == key) {
        return Some(settings.set(flag, text));
    }
    settings.set_renamed(&name.to_lowercase().replace('_', "-"), text, notices)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        args: &[(&'static str, &str)],
        variables: &[(&str, &str)],
    ) -> (Settings, Vec<Notice>, Result<(), Error>) {
        let (mut settings, mut notices) = (Settings::new(), Vec::new());
        for (name, text) in args {
            settings.set(flags::find(name).unwrap(), text).unwrap();
        }
        let variables: Vec<_> = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let result = apply(&variables, &mut settings, &mut notices);
        (settings, notices, result)
    }

    #[test]
    fn fills_what_the_command_line_left_open() {
        let (settings, notices, result) = run(
            &[("name", "a")],
            &[
                ("ETCD_DATA_DIR", "/d"),
                ("PATH", "/bin"),
                ("ETCD_FOO", "1"),
                ("ETCD_EXPERIMENTAL_MAX_LEARNERS", "1"),
            ],
        );
        assert_eq!(result, Ok(()));
        assert_eq!((settings.text("name"), settings.text("data-dir")), ("a", "/d"));
        let messages: Vec<_> = notices.iter().map(|notice| notice.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "recognized and used environment variable",
                "--experimental-max-learners is deprecated, use --max-learners",
                "recognized and used environment variable",
                "unrecognized environment variable",
            ]
        );
    }

    #[test]
    fn refuses_conflicts_and_bad_values() {
        let (_, _, result) = run(&[("name", "a")], &[("ETCD_NAME", "b")]);
        assert_eq!(result, Err(Error::Shadowed { variable: "ETCD_NAME".to_string() }));
        let (_, _, result) = run(&[], &[("ETCD_HEARTBEAT_INTERVAL", "abc")]);
        let text = "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error";
        assert_eq!(result, Err(Error::Refused(text.to_string())));
    }

    #[test]
    fn an_empty_variable_sets_nothing() {
        let (settings, notices, result) = run(&[], &[("ETCD_NAME", "")]);
        assert_eq!(result, Ok(()));
        assert_eq!(settings.text("name"), "default");
        assert_eq!(notices[0].message, "unrecognized environment variable");
    }
}
