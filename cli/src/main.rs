//! Parses, runs, exits.

use std::process::ExitCode;

use clap::Parser;
use parlance::args::Args;
use parlance::exit;

/// Many small allocations from many tasks: the system's allocator keeps what they leave behind.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => {
            // Help and the version are answers, and go to stdout. A closed pipe is no error.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() {
                exit::BAD_USAGE
            } else {
                exit::DONE
            });
        }
    };
    match parlance::run(args) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(e) => {
            let code = exit::code_of(&e);
            if code != exit::DONE {
                parlance::output::say(format!("error: {e:#}"));
            }
            ExitCode::from(code)
        }
    }
}
