//! The command line: one binary for everything.
//!
//! *For*: a laptop (`up`, `demo`, `bench`), a container (`serve`), an operator (`provision`, `keys`), and a person at a
//! terminal or a script (`replay`, `token`, `call`, `member`, `push`, `pending`, `tail`).
//!
//! *Consumes* the doors of the services as any backend or client does; *produces* text, or JSON with `--json`; *owns* the
//! data folder of `up`: nats-server's streams, keys, and `ready.json`, by which the other commands find the running mesh.
//!
//! *Guarantees*: results on standard output, everything else on standard error; exit code 0 done, 1 failed, 2 wrong
//! usage, 69 something needed is not available, 78 wrong configuration, 130 a demo was interrupted.
//!
//! *Does not* reach around the services' doors: what it can do, every backend can do.
//!
//! Start reading at [`cli`], then [`up`].

pub mod cli;
pub mod exit;

mod bench;
mod call;
pub mod demo;
pub mod doors;
mod duration;
mod member;
mod output;
mod provision;
mod push;
mod replay;
mod room;
mod serve;
mod tail;
mod token;
pub mod up;
