//! The service `comet` as a process.

fn main() -> std::process::ExitCode {
    pushmesh_boot::main::<comet::Service>()
}
