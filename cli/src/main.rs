//! Parses, runs, exits.

use std::io::Write;

use clap::Parser;
use parlance::args::Args;
use parlance::exit;

/// Many small allocations from many tasks: the system's allocator keeps what they leave behind.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ! {
    let code = match Args::try_parse() {
        Ok(args) => run(args),
        Err(e) => {
            // Help and the version are answers, and go to stdout. A closed pipe is no error.
            let _ = e.print();
            if e.use_stderr() {
                exit::BAD_USAGE
            } else {
                exit::DONE
            }
        }
    };
    end(code)
}

fn run(args: Args) -> u8 {
    let Err(e) = parlance::run(args) else {
        return exit::DONE;
    };
    let code = exit::code_of(&e);
    if code != exit::DONE {
        parlance::output::say(format!("error: {e:#}"));
    }
    code
}

/// Leaves without the destructors of C++: they would take RocksDB's statics away from under the threads of a store that failed,
/// and the process would abort ("pthread lock: Invalid argument") where it has a code to give.
fn end(code: u8) -> ! {
    let _ = std::io::stdout().flush();
    signal_hook::low_level::exit(code.into())
}
