//! The program `signet`.

fn main() -> std::process::ExitCode {
    origin::cli::main()
}
