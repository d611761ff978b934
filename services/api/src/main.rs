use std::process::ExitCode;

fn main() -> ExitCode {
    pushmesh_boot::main::<api::Service>()
}
