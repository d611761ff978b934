//! `pushmesh serve`: one service in this process, as its own binary would run it.

use std::{ffi::OsString, process::ExitCode};

use pushmesh_boot::{Service, main_with_args};

#[derive(Debug, clap::Subcommand)]
pub enum Serve {
    /// Takes login reports of login systems and comets
    #[command(disable_help_flag = true)]
    LoginIngest(Options),
    /// Hands login records to the push services
    #[command(disable_help_flag = true)]
    Distributor(Options),
    /// Pushes calls of flat groups; with another kind, of another directory of that shape
    #[command(disable_help_flag = true)]
    GroupPush(Options),
    /// Pushes calls of ad-hoc discussions
    #[command(disable_help_flag = true)]
    DiscussPush(Options),
    /// Pushes calls of an organisation's departments
    #[command(disable_help_flag = true)]
    OrgPush(Options),
    /// Delivers pushes until they are acknowledged
    #[command(disable_help_flag = true)]
    AckRetry(Options),
    /// Owns the rooms of live streams
    #[command(disable_help_flag = true)]
    RoomFanout(Options),
    /// The front door of rooms, over HTTP and gRPC
    #[command(disable_help_flag = true)]
    Api(Options),
    /// Holds the clients' connections
    #[command(disable_help_flag = true)]
    Comet(Options),
}

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The service's own options: see its --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<OsString>,
}

impl Options {
    fn run<S: Service>(self) -> ExitCode {
        main_with_args::<S>(std::iter::once(S::NAME.into()).chain(self.options))
    }
}

impl Serve {
    pub fn run(self) -> ExitCode {
        match self {
            Self::LoginIngest(options) => options.run::<login_ingest::Service>(),
            Self::Distributor(options) => options.run::<distributor::Service>(),
            Self::GroupPush(options) => options.run::<group_push::Service>(),
            Self::DiscussPush(options) => options.run::<discuss_push::Service>(),
            Self::OrgPush(options) => options.run::<org_push::Service>(),
            Self::AckRetry(options) => options.run::<ack_retry::Service>(),
            Self::RoomFanout(options) => options.run::<room_fanout::Service>(),
            Self::Api(options) => options.run::<api::Service>(),
            Self::Comet(options) => options.run::<comet::Service>(),
        }
    }
}
