use std::process::ExitCode;

fn main() -> ExitCode {
    pushmesh_boot::main::<room_fanout::Service>()
}
