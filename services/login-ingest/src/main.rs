use std::process::ExitCode;

fn main() -> ExitCode {
    pushmesh_boot::main::<login_ingest::Service>()
}
