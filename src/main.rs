//! The binary: behaves by the name it is called by, reads the configuration, opens the log and runs.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use pinion::{
    config::{self, Command, Error, Loaded, Notice, help},
    ctl, logging, server,
};
use tracing::{error, info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As in etcd: the command line cannot be read.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let program = args.first().and_then(|arg| Path::new(arg).file_name()).and_then(|name| name.to_str());
    match program.unwrap_or("pinion") {
        "etcdctl" => absent("etcdctl"),
        "etcdutl" => tool(&args),
        name => match args.get(1).and_then(|arg| arg.to_str()) {
            Some(command @ ("gateway" | "grpc-proxy")) => absent(command),
            _ => serve(name, &args),
        },
    }
}

fn absent(name: &str) -> ExitCode {
    eprintln!("{name} is not part of this release: use etcd's own, which works with this server");
    ExitCode::FAILURE
}

fn tool(args: &[OsString]) -> ExitCode {
    match ctl::run(args, &mut io::stdout().lock(), &mut io::stderr().lock()) {
        Ok(code) => ExitCode::from(code),
        // Nobody reads: as a closed pipe to any other tool.
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(program: &str, args: &[OsString]) -> ExitCode {
    logging::stop_on_panic();
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    let Loaded { log, notices, result } = config::load(args.get(1..).unwrap_or_default(), &variables);
    let result = match result {
        Ok(Command::Help) => {
            eprint!("{}", help::usage(program));
            return print(&help::flags());
        }
        Ok(Command::Version) => return print(&help::version()),
        Err(Error::Usage(message)) => {
            eprint!("{message}\n{}", help::usage(program));
            return ExitCode::from(USAGE);
        }
        Ok(Command::Serve(config)) => Ok(config),
        Err(error) => Err(error),
    };
    if let Err(error) = logging::open(&log) {
        eprintln!("{program}: {error}");
        return ExitCode::FAILURE;
    }
    notices.iter().for_each(say);
    let args: Vec<_> = args.iter().map(|arg| arg.display()).collect();
    info!(args = ?logging::list(&args), "Running: ");
    let config = match result {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    match server::run(*config) {
        Ok(Some(signal)) => end(signal),
        // It was removed from its cluster, and has said so.
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            error!(target: logging::FATAL, %error, "failed to start or to go on");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads: as a closed pipe to any other tool.
        Err(_) => ExitCode::FAILURE,
    }
}

fn say(notice: &Notice) {
    let fields = logging::object(&notice.fields);
    if notice.is_warning {
        warn!(fields = ?fields, "{}", notice.message);
    } else {
        info!(fields = ?fields, "{}", notice.message);
    }
}

fn refuse(error: &Error) -> ExitCode {
    match error {
        Error::Shadowed { variable } => {
            let fields = BTreeMap::from([("environment-variable", variable.clone())]);
            error!(target: logging::FATAL, fields = ?logging::object(&fields), "{error}");
        }
        _ => {
            warn!(%error, "failed to verify flags");
            if *error == Error::AdvertiseUnset {
                warn!(%error, "advertise client URLs are not set");
            }
        }
    }
    ExitCode::FAILURE
}

/// As etcd does, dies of the signal that stopped it, so that whoever waits sees why; process 1 cannot.
fn end(signal: i32) -> ExitCode {
    if std::process::id() != 1
        && let Err(error) = signal_hook::low_level::emulate_default_handler(signal)
    {
        error!(%error, "cannot end by the signal");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
