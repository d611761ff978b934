use std::process::ExitCode;

fn main() -> ExitCode {
    pushmesh_boot::main::<discuss_push::Service>()
}
