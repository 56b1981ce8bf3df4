//! `bindgen INPUT.wasm OUTPUT-FOLDER`: writes the wasm file and its JavaScript glue for a bundler.

use std::process::ExitCode;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(folder), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!("usage: bindgen INPUT.wasm OUTPUT-FOLDER");
        return ExitCode::from(64);
    };
    match generate(&input, &folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bindgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn generate(input: &str, folder: &str) -> Result<(), String> {
    let mut bindgen = Bindgen::new();
    bindgen
        .input_path(input)
        .bundler(true)
        .map_err(|error| error.to_string())?
        .out_name("edge")
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true);
    bindgen
        .generate(folder)
        .map_err(|error| format!("{error:#}"))
}
