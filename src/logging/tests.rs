use super::*;
use crate::config::{LogFormat, LogOutput};

/// The log is one per process, so this is one test.
#[test]
fn lines_have_etcds_shape() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let options = config::Log {
        level: LogLevel::Info,
        format: LogFormat::Json,
        outputs: vec![LogOutput::File(path.clone())],
    };
    open(&options).unwrap();
    assert!(matches!(open(&options), Err(Error::AlreadyOpen)));

    tracing::info!(
        "listen-urls" = ?list(&["http://a:1", "http://b:2"]),
        count = 3,
        ok = true,
        text = "a\"b\n",
        forged = %"\u{1}{\"level\":",
        "ready to serve {}", "client requests"
    );
    tracing::debug!("not written");
    tracing::error!(target: FATAL, "stopped");
    log::warn!("from the executor");

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .filter(|line| line.contains("logging/tests.rs"))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(text.starts_with("{\"level\":\"info\",\"ts\":\"2"));
    assert_eq!(lines[0]["msg"], "ready to serve client requests");
    assert_eq!(lines[0]["listen-urls"], serde_json::json!(["http://a:1", "http://b:2"]));
    assert_eq!((&lines[0]["count"], &lines[0]["ok"]), (&3.into(), &true.into()));
    assert_eq!(lines[0]["text"], "a\"b\n");
    assert_eq!(lines[0]["forged"], "\u{1}{\"level\":");
    assert_eq!(lines[1]["level"], "fatal");
    assert_eq!((&lines[2]["level"], &lines[2]["msg"]), (&"warn".into(), &"from the executor".into()));
}

#[test]
fn the_console_form_is_for_people() {
    let mut line = line::Line::default();
    line.message(&format_args!("two\nlines"));
    line.plain("n", 1);
    line.text("s", "x");
    let mut text = String::new();
    let caller = line::caller(Some("/home/x/registry/glommio-0.9.0/src/sys/uring.rs"), Some(7));
    line.finish(LogFormat::Console, LogLevel::Warn, "T", &caller, &mut text);
    assert_eq!(text, "T\twarn\tsys/uring.rs:7\ttwo\\nlines\t{\"n\":1, \"s\":\"x\"}\n");
}

#[test]
fn an_output_that_cannot_be_opened_is_named() {
    let options =
        config::Log { outputs: vec![LogOutput::File("/nonexistent/log".into())], ..config::Log::default() };
    let error = Writer::open(&options).err().unwrap().to_string();
    assert!(error.contains("/nonexistent/log") && error.contains("--log-outputs"), "{error}");
}
