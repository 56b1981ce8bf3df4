//! The program's commands.

mod clients;
mod configuration;
mod doctor;
mod lifecycle;
mod links;
mod rotate;
mod sweep;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::infer;
use crate::revoke::Revoker;
use crate::secret::Secret;
use crate::startup::{self, StartError};
use crate::state::State;
use crate::telemetry::PromptKeys;

/// A configuration that cannot work (sysexits.h: `EX_USAGE`).
const BAD_CONFIGURATION: u8 = 64;

/// Signet: the hardened path from a prompt to a picture that only a signed link opens.
#[derive(Debug, Parser)]
#[command(name = "signet", version)]
struct Cli {
    /// The configuration file; without it `signet.toml` in the working directory, when there is one.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service.
    Serve,
    /// Makes one picture in this process, without server, state or keys.
    Generate {
        /// What to show.
        prompt: String,
        /// The file to write; its ending picks the format.
        #[arg(short)]
        output: PathBuf,
        /// Same seed, same picture.
        #[arg(long)]
        seed: Option<u64>,
        /// Steps; the model's default without it.
        #[arg(long)]
        steps: Option<usize>,
    },
    /// Signs and judges links.
    #[command(subcommand)]
    Link(links::LinkCommand),
    /// Makes and lists keyrings.
    #[command(subcommand)]
    Keys(links::KeysCommand),
    /// Registers OAuth clients.
    #[command(subcommand)]
    Client(clients::ClientCommand),
    /// Closes addresses out for a time.
    #[command(subcommand)]
    Address(clients::AddressCommand),
    /// Decides about users.
    #[command(subcommand)]
    User(clients::UserCommand),
    /// Shows and writes the bucket's lifecycle rules.
    #[command(subcommand)]
    Lifecycle(lifecycle::LifecycleCommand),
    /// Removes what has expired and settles what a crash left behind.
    Sweep(sweep::SweepArguments),
    /// Tries the hardening checklist on a live deployment.
    Doctor(doctor::DoctorArguments),
    /// Decides to what state this origin belongs.
    #[command(subcommand)]
    State(StateCommand),
    /// Checks or shows the configuration.
    #[command(subcommand)]
    Config(configuration::ConfigCommand),
}

/// `signet state`.
#[derive(Debug, Subcommand)]
enum StateCommand {
    /// Makes the state file, a copy of the one at `state.url`, a state of its own.
    Leave,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Config(configuration::ConfigCommand::Default) = cli.command {
        print!("{}", config::default_file());
        return ExitCode::SUCCESS;
    }
    if let Command::Config(configuration::ConfigCommand::Page) = cli.command {
        print!("{}", configuration::page());
        return ExitCode::SUCCESS;
    }
    let settings = match load(cli.config.as_deref()) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    settings.telemetry.start();
    if let Command::Doctor(arguments) = cli.command {
        return finish(examine(arguments, cli.config.is_some(), settings));
    }
    finish(run(cli.command, settings))
}

fn finish(outcome: Result<ExitCode, StartError>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The doctor believes the configuration only where somebody wrote one.
fn examine(
    arguments: doctor::DoctorArguments,
    has_file: bool,
    settings: Settings,
) -> Result<ExitCode, StartError> {
    let variables: std::collections::HashMap<_, _> = variables().collect();
    let written = has_file || Path::new("signet.toml").exists() || config::names_any(&variables);
    let settings = written.then_some(settings);
    let work = doctor::doctor(arguments, settings, variables, Clock::System);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

fn load(file: Option<&Path>) -> Result<Settings, config::ConfigError> {
    let usual = Path::new("signet.toml");
    let file = file.or_else(|| usual.exists().then_some(usual));
    config::load(file, variables())
}

/// The environment. Variables that are not UTF-8 are not ours.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn run(command: Command, settings: Settings) -> Result<ExitCode, StartError> {
    let clock = Clock::System;
    match command {
        Command::Serve => actix_web::rt::System::new().block_on(startup::serve(settings, clock))?,
        Command::Generate {
            prompt,
            output,
            seed,
            steps,
        } => {
            let request = infer::CliRequest {
                prompt: &prompt,
                seed,
                steps,
                model: "",
            };
            let cut = infer::cli_generate(&settings.infer, &request, &output, &mut |event| {
                eprintln!("step {} of {}", event.step, event.steps)
            })?;
            for cut in cut {
                let (used, all) = (cut.used_tokens, cut.tokens);
                let (field, characters) = (cut.field, cut.used_characters);
                eprintln!(
                    "of {field} the model read {used} of {all} tokens: {characters} characters"
                );
            }
        }
        Command::Link(command) => return links::link(command, &settings, &clock),
        Command::Keys(links::KeysCommand::Rotate(rotate)) if rotate.tokens => {
            let state = open_state(&settings)?;
            block_on(async {
                let kid =
                    crate::auth::tokens::rotate(&state, rotate.at_once, clock.seconds()).await?;
                println!("{kid}");
                Ok(())
            })?
        }
        Command::Keys(links::KeysCommand::Rotate(rotate)) if rotate.prompts => {
            let file = settings.telemetry.prompt_keys(&settings.state.file);
            let now = clock.seconds();
            println!("{}", PromptKeys::rotate(&file, rotate.at_once, now)?.kid());
        }
        Command::Keys(command) => links::keys(command, &settings, &clock)?,
        Command::Client(command) => {
            let state = open_state(&settings)?;
            let is_decision = matches!(command, clients::ClientCommand::Disable { .. });
            block_on(async {
                clients::client(command, &state, &clock).await?;
                if is_decision {
                    tell_edge(&settings, &state, &clock).await;
                }
                Ok(())
            })?
        }
        Command::Address(command) => {
            let state = open_state(&settings)?;
            let is_decision = !matches!(command, clients::AddressCommand::List);
            block_on(async {
                clients::address(command, &state, &clock).await?;
                if is_decision {
                    tell_edge(&settings, &state, &clock).await;
                }
                Ok(())
            })?
        }
        Command::User(clients::UserCommand::Erase { id, forget }) => {
            if !crate::auth::clients::is_user_id(&id) {
                return Err(format!("{id:?} is no user id").into());
            }
            let state = open_state(&settings)?;
            block_on(sweep::erase(&id, forget, &settings, state))?
        }
        Command::State(StateCommand::Leave) => {
            State::leave(&settings.state.file)?;
            println!("this file is a state of its own now: unset state.url");
        }
        Command::Lifecycle(command) => block_on(lifecycle::lifecycle(command, &settings))?,
        Command::Sweep(arguments) => {
            let state = open_state(&settings)?;
            block_on(sweep::sweep(arguments, &settings, state, clock))?
        }
        Command::User(command) => {
            let state = open_state(&settings)?;
            block_on(async {
                clients::user(command, state.clone(), &settings, &clock).await?;
                tell_edge(&settings, &state, &clock).await;
                Ok(())
            })?
        }
        // `main` has taken the doctor's way already.
        Command::Config(_) | Command::Doctor(_) => println!("the configuration is good"),
    }
    Ok(ExitCode::SUCCESS)
}

fn open_state(settings: &Settings) -> Result<State, StartError> {
    Ok(State::of(&settings.state)?)
}

/// Tells the edge what is revoked by now. The decision stands either way: the service says it again.
async fn tell_edge(settings: &Settings, state: &State, clock: &Clock) {
    match Revoker::of(settings) {
        Ok(None) => {}
        Ok(Some(revoker)) => match revoker.tell(state, clock).await {
            Ok(()) => eprintln!("the edge was told"),
            Err(error) => eprintln!("warning: the edge was not told: {error}"),
        },
        Err(error) => eprintln!("warning: the edge was not told: {error}"),
    }
}

fn block_on(work: impl Future<Output = Result<(), StartError>>) -> Result<(), StartError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// A keyring of one fresh key.
pub fn new_keyring(kid: &str) -> Secret {
    use base64::{Engine, engine::general_purpose::STANDARD};
    Secret::new(format!(
        "{kid}:{}",
        STANDARD.encode(rand::random::<[u8; 32]>())
    ))
}
