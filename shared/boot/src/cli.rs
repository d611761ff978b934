//! The command line of a service's process.

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pushmesh_config::{ConfigError, Layers};
use pushmesh_telemetry::Telemetry;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    REVISION, VERSION,
    error::{BootError, chain},
    reload::Reloader,
    run::{Control, fresh_instance, run, verifier},
    service::Service,
    settings::Settings,
    shutdown::Shutdown,
};

/// How often the metrics' memory is tidied.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long blocking work may hold up the process's end.
const RUNTIME_END: Duration = Duration::from_secs(1);

/// The whole `main` of a service.
pub fn main<S: Service>() -> ExitCode {
    main_with_args::<S>(std::env::args_os())
}

/// The same with arguments given, the first being the program's name.
pub fn main_with_args<S: Service>(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command::<S>().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Nobody may be reading.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let settings = match read::<S>(&matches) {
        Ok(settings) => settings,
        Err(error) => return fail(S::NAME, &BootError::from(error)),
    };
    let as_read = match serde_json::to_value(&settings) {
        Ok(values) => values,
        Err(error) => return fail(S::NAME, &BootError::Config(error.to_string())),
    };
    let settings = named::<S>(settings);
    if matches.get_flag("print-schema") {
        return print(&format!("{:#}\n", pushmesh_config::schema::<Settings<S::Config>>()));
    }
    if matches.get_flag("print-config") {
        return match pushmesh_config::redacted(&settings) {
            Ok(value) => print(&pushmesh_config::to_toml(&value)),
            Err(error) => fail(S::NAME, &BootError::Config(error.to_string())),
        };
    }
    if matches.get_flag("check-config") {
        return match verifier(&settings.auth) {
            Ok(_) => print("configuration is good\n"),
            Err(error) => fail(S::NAME, &error),
        };
    }
    let ready_file = matches.get_one::<PathBuf>("ready-file").cloned();
    match process::<S>(settings, ready_file, matches, as_read) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(S::NAME, &error),
    }
}

fn command<S: Service>() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let version: &'static str = Box::leak(format!("{VERSION} ({REVISION})").into_boxed_str());
    Command::new(S::NAME)
        .about(S::ABOUT)
        .version(version)
        .after_help(format!(
            "Configuration: defaults < --config < PUSHMESH_TABLE__KEY=… < --set table.key=…\n\
             Signals: TERM or INT drains, a second one stops; HUP reads keys and log level again\n\
             Exit codes: 0 clean, 1 fatal, 2 usage, 69 a dependency is unavailable, 78 bad configuration\n\n\
             Example: {} --config {0}.toml --set nats.url=nats://127.0.0.1:4222",
            S::NAME
        ))
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .env("PUSHMESH_CONFIG")
                .value_parser(value_parser!(PathBuf))
                .help("TOML file with the settings"),
        )
        .arg(
            Arg::new("set")
                .long("set")
                .value_name("KEY=VALUE")
                .action(ArgAction::Append)
                .help("One setting, over file and environment; may be repeated"),
        )
        .arg(flag("insecure-local", "Open backend doors on loopback without tokens"))
        .arg(flag("check-config", "Check the settings and the key file and exit with 0 or 78"))
        .arg(flag("print-config", "Print the settings as TOML, secrets redacted, and exit"))
        .arg(flag("print-schema", "Print the JSON schema of the settings and exit"))
        .arg(
            Arg::new("ready-file")
                .long("ready-file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Write the doors' addresses as JSON here once ready"),
        )
}

/// The settings, all layers together, and good.
pub(crate) fn read<S: Service>(matches: &ArgMatches) -> Result<Settings<S::Config>, ConfigError> {
    let mut layers = Layers::new();
    if let Some(path) = matches.get_one::<PathBuf>("config") {
        layers = layers.file(Path::new(path))?;
    }
    layers = layers.environment();
    if matches.get_flag("insecure-local") {
        layers = layers.set("auth.insecure_local=true")?;
    }
    for assignment in matches.get_many::<String>("set").into_iter().flatten() {
        layers = layers.set(assignment)?;
    }
    let settings: Settings<S::Config> = layers.load()?;
    settings.validate()?;
    Ok(settings)
}

fn named<S: Service>(mut settings: Settings<S::Config>) -> Settings<S::Config> {
    let name = S::member_name(&settings.service);
    settings.mesh.instance.get_or_insert_with(|| fresh_instance(&name));
    settings
}

fn process<S: Service>(
    settings: Settings<S::Config>,
    ready_file: Option<PathBuf>,
    matches: ArgMatches,
    as_read: Value,
) -> Result<(), BootError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| BootError::Fatal(anyhow::Error::from(error).context("can't start the runtime")))?;
    let ended = runtime.block_on(async {
        let service = S::member_name(&settings.service);
        let instance = settings.mesh.instance.clone().expect("the instance is named");
        let telemetry = pushmesh_telemetry::init(&settings.telemetry, service.as_str(), instance.as_str())
            .map_err(|error| BootError::Config(chain(&error)))?;
        log_panics();
        tokio::spawn(upkeep(telemetry.clone()));
        let shutdown = Shutdown::new();
        let (reloader, keys) = Reloader::new(matches, as_read, telemetry.clone());
        listen_to_signals::<S>(shutdown.clone(), reloader).map_err(|error| BootError::Fatal(error.into()))?;
        tracing::info!(version = VERSION, revision = REVISION, "{} starts", S::NAME);
        let control =
            Control { shutdown, ready: None, ready_file, telemetry: Some(telemetry.clone()), keys: Some(keys) };
        let ended = match tokio::spawn(run::<S>(settings, control)).await {
            Ok(ended) => ended,
            // Logged by the hook.
            Err(_) => Err(BootError::Fatal(anyhow::anyhow!("the service panicked"))),
        };
        // It blocks while the last spans leave, and needs this runtime for that.
        let _ = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
        ended
    });
    runtime.shutdown_timeout(RUNTIME_END);
    ended
}

fn listen_to_signals<S: Service>(shutdown: Shutdown, reloader: Reloader) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Unhandled it would end the process at once.
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = terminate.recv() => tracing::info!("SIGTERM"),
                Some(()) = interrupt.recv() => tracing::info!("SIGINT"),
                Some(()) = hang_up.recv() => {
                    reloader.reload::<S>();
                    continue;
                }
                else => return,
            }
            shutdown.signal();
        }
    });
    Ok(())
}

async fn upkeep(telemetry: Telemetry) {
    let mut due = tokio::time::interval(UPKEEP);
    loop {
        due.tick().await;
        telemetry.upkeep();
    }
}

// A panic is a line in the log like everything else, with its place.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text =
            payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("(no text)");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(message, place, thread = std::thread::current().name().unwrap_or_default(), "panic");
    }));
}

fn fail(service: &str, error: &BootError) -> ExitCode {
    // The log may not be set up yet, and people look here first.
    eprintln!("{service}: {error}");
    ExitCode::from(error.exit_code())
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
