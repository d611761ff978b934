use std::process::ExitCode;

fn main() -> ExitCode {
    pushmesh_boot::main::<org_push::Service>()
}
