//! What can be typed, and who does it.

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    bench::{Bench, BenchChild},
    call::CallCommand,
    demo,
    exit::{Failure, Outcome},
    member::MemberCommand,
    provision::Provision,
    push::{Pending, Push},
    replay::Replay,
    room::{Gift, Like, Mute, RoomCommand},
    serve::Serve,
    tail::Tail,
    token::{KeysCommand, TokenCommand},
    up::Up,
};

/// A push mesh on NATS: who comes online is told of every call going on in his groups, discussions and organisation.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example:\n  pushmesh up                                      # the whole mesh, in one terminal\n  pushmesh member add group friends alice          # in another\n  pushmesh call start group friends standup\n  pushmesh tail --user alice\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 69 something needed is not available, 78 wrong configuration, 130 a demo was interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// One value a process: its size doesn't matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a whole mesh in this process: a nats-server and all services
    #[command(
        after_help = "Example:\n  pushmesh up\n  pushmesh up --data /tmp/mesh --free-ports --ready-file /tmp/ready.json\n\nCtrl-C drains it within seconds; a second one stops it at once."
    )]
    Up(Up),
    /// Runs one service, as in a cluster
    #[command(
        subcommand,
        after_help = "Example:\n  pushmesh serve comet --config comet.toml\n  pushmesh serve group-push --set service.kind=squad\n\nEach service has its own --help."
    )]
    Serve(Serve),
    /// Replays real records against a mesh of its own and checks every push
    Demo(demo::Demo),
    #[command(hide = true)]
    DemoClients,
    /// Measures how fast the product is, beside the machine's limit at the same work
    #[command(subcommand)]
    Bench(Bench),
    #[command(hide = true)]
    BenchChild(BenchChild),
    #[command(hide = true)]
    DemoAudience,
    /// Creates what a mesh needs on a NATS server; tells what differs, never deletes
    #[command(after_help = "Example:\n  pushmesh provision --nats-url nats://nats:4222 --partitions 64 --replicas 3")]
    Provision(Provision),
    /// Makes tokens for clients and backends
    #[command(subcommand, after_help = "Example:\n  pushmesh token client alice --ttl 8h")]
    Token(TokenCommand),
    /// Makes the keys that tokens are signed with
    #[command(subcommand, after_help = "Example:\n  pushmesh keys generate --file jwks.json")]
    Keys(KeysCommand),
    /// Reports login records from a file
    #[command(
        after_help = "Example:\n  pushmesh replay records.ndjson.gz --speed 10\n  echo '{\"user\":\"alice\",\"device\":\"phone\",\"event\":\"online\"}' | pushmesh replay -\n\nA line is {\"user\", \"device\", \"event\": \"online\"|\"offline\", \"login_id\", \"at_ms\"}, or a record like those in pushmesh/data."
    )]
    Replay(Replay),
    /// Starts, ends and lists calls
    #[command(subcommand, after_help = "Example:\n  pushmesh call start group friends standup")]
    Call(CallCommand),
    /// Adds, removes and lists members of groups, discussions and departments
    #[command(subcommand, after_help = "Example:\n  pushmesh member add group friends alice bob")]
    Member(MemberCommand),
    /// Pushes a message to users' devices, or into their inboxes, or to who is in a room
    #[command(
        after_help = "Example:\n  pushmesh push alice --data 'your order is on its way'\n  pushmesh push alice bob --data 'we meet at nine'\n  pushmesh push --room live-1 --data 'we begin at nine'"
    )]
    Push(Push),
    /// Lists what waits for a user: not acknowledged yet, or in his inbox
    #[command(after_help = "Example:\n  pushmesh pending alice --json")]
    Pending(Pending),
    /// Live rooms: enter, say, look, and keep order
    #[command(
        subcommand,
        after_help = "Example:\n  pushmesh room join live-1 --user alice       # in one terminal\n  pushmesh room say live-1 hello --user bob    # in another"
    )]
    Room(RoomCommand),
    /// Gives a gift in a room; one key is one gift, however often it is said
    #[command(
        after_help = "Example:\n  pushmesh gift live-1 rose --user alice --count 3 --value 30\n  pushmesh gift live-1 car --user alice --value 50000 --to bob --key 01890a5d-ac96-774b-bcce-b302099a8057"
    )]
    Gift(Gift),
    /// Likes a room
    #[command(after_help = "Example:\n  pushmesh like live-1 --user alice --count 20")]
    Like(Like),
    /// Keeps somebody from speaking in a room, or everywhere; he still sees everything
    #[command(
        after_help = "Example:\n  pushmesh mute live-1 eve --for 10m\n  pushmesh mute --everywhere eve --for 1d\n  pushmesh mute live-1 eve --end"
    )]
    Mute(Mute),
    /// Logs in as a user and prints what he is told; or follows the dead letters
    #[command(
        after_help = "Example:\n  pushmesh tail --user alice\n  pushmesh tail --user alice --json --count 1\n  pushmesh tail --dead"
    )]
    Tail(Tail),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let command = match Cli::parse().command {
        // A service brings its own runtime, signals and exit codes.
        Command::Serve(service) => return service.run(),
        command => command,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::unavailable(error).exit(),
    };
    let outcome = runtime.block_on(command.run());
    // What is left are reads that may never end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

impl Command {
    async fn run(self) -> Outcome {
        match self {
            Self::Serve(_) => unreachable!("main has run it"),
            Self::Up(up) => Box::pin(up.run()).await,
            Self::Demo(demo) => match Box::pin(demo.run()).await? {
                true => Ok(()),
                false => {
                    Err(Failure::failed(anyhow::anyhow!("pushes were lost, duplicated or shown to the wrong users")))
                }
            },
            Self::Bench(bench) => Box::pin(bench.run()).await,
            Self::BenchChild(child) => Box::pin(child.run()).await,
            Self::DemoClients => Ok(Box::pin(demo::clients::run()).await?),
            Self::DemoAudience => Ok(Box::pin(demo::rooms::audience::run()).await?),
            Self::Provision(provision) => provision.run().await,
            Self::Token(token) => token.run(),
            Self::Keys(keys) => keys.run(),
            Self::Replay(replay) => Box::pin(replay.run()).await,
            Self::Call(call) => Box::pin(call.run()).await,
            Self::Member(member) => Box::pin(member.run()).await,
            Self::Push(push) => push.run().await,
            Self::Pending(pending) => pending.run().await,
            Self::Room(room) => Box::pin(room.run()).await,
            Self::Gift(gift) => gift.run().await,
            Self::Like(like) => like.run().await,
            Self::Mute(mute) => mute.run().await,
            Self::Tail(tail) => Box::pin(tail.run()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, Parser};

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The commands without subcommands of their own; a service's options are boot's.
    fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        let path = format!("{path} {}", command.get_name());
        if command.is_hide_set() {
            return;
        }
        if command.get_name() == "serve" || !command.has_subcommands() {
            return found.push((path, command.clone()));
        }
        command.get_subcommands().for_each(|sub| leaves(sub, &path, found));
    }

    #[test]
    fn every_command_has_an_example_and_speaks_json() {
        let mut found = vec![];
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() >= 15, "{found:?}");
        for (path, command) in found {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "{path} --help shows no example");
            assert!(command.get_about().is_some(), "{path} says nothing about itself");
            let json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            assert!(json || path.ends_with("serve"), "{path} has no --json");
        }
    }

    #[test]
    fn bad_ids_are_refused_with_the_reason() {
        for bad in ["a.b", "*", ">", "a b", "a\r\nb", "", &"a".repeat(5000)] {
            let refused = Cli::try_parse_from(["pushmesh", "call", "end", "group", bad]);
            assert_eq!(refused.unwrap_err().exit_code(), 2, "{bad:?}");
            assert!(Cli::try_parse_from(["pushmesh", "member", "add", "org", bad, "u"]).is_err(), "{bad:?}");
            assert!(Cli::try_parse_from(["pushmesh", "token", "client", bad]).is_err(), "{bad:?}");
        }
        assert!(Cli::try_parse_from(["pushmesh", "member", "add", "org", "net/verizon", "u"]).is_ok());
        assert!(Cli::try_parse_from(["pushmesh", "tail"]).is_err());
        assert!(Cli::try_parse_from(["pushmesh", "provision", "--partitions", "0"]).is_err());
    }
}
