//! The program `signet`.

fn main() -> std::process::ExitCode {
    // First of all: the decoding process must have touched nothing when its walls go up.
    match origin::upload::worker::run_if_asked() {
        Some(done) => done,
        None => origin::cli::main(),
    }
}
