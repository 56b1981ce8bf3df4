//! `signet doctor`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::BAD_CONFIGURATION;
use crate::clock::Clock;
use crate::config::Settings;
use crate::doctor::{self, Base, Credentials, Inputs, Known, Status};
use crate::secret::Secret;
use crate::startup::StartError;

/// Where known vulnerabilities are asked for.
const ADVISORIES: &str = "https://api.osv.dev";

/// What the environment does not say (docs/doctor.md).
#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Prints one JSON array.
    #[arg(long)]
    json: bool,
    /// Also tries what blocks this client for some minutes or spends generations of CLIENT_ID.
    #[arg(long)]
    intrusive: bool,
    /// A log of the front to look through (ACCESS_LOG); can stand several times.
    #[arg(long, value_name = "FILE")]
    access_log: Vec<PathBuf>,
    /// The origin's log to look through (SERVICE_LOG); can stand several times.
    #[arg(long, value_name = "FILE")]
    service_log: Vec<PathBuf>,
    /// The Prometheus server (PROMETHEUS_URL).
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// A source tree to look through for secrets (SOURCE_TREE).
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// The images host of another deployment, which must not know our link keys; can stand several times.
    #[arg(long, value_name = "URL")]
    other_images: Vec<String>,
    /// A server with OSV's API to ask for known vulnerabilities (ADVISORIES_URL), or `off`.
    #[arg(long, value_name = "URL")]
    advisories: Option<String>,
    /// Where a host is really to be found, as HOST:PORT=HOST:PORT; can stand several times.
    #[arg(long, value_name = "FROM=TO")]
    connect_to: Vec<String>,
}

/// Runs the checklist; exit code 0 when no row fails, 64 when there was nothing to examine.
pub(super) async fn doctor(
    arguments: DoctorArguments,
    settings: Option<Settings>,
    variables: HashMap<String, String>,
    clock: Clock,
) -> Result<ExitCode, StartError> {
    let json = arguments.json;
    let inputs = inputs(arguments, settings, &variables)?;
    let blind = inputs.edge.is_none();
    let rows = doctor::examine(inputs, clock).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", doctor::table(&rows));
    }
    if blind {
        eprintln!(
            "error: EDGE_URL is not set: nothing was examined (in a checkout: set -a; . .run/env)"
        );
        return Ok(ExitCode::from(BAD_CONFIGURATION));
    }
    if rows.iter().any(|row| row.status == Status::Fail) {
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn inputs(
    arguments: DoctorArguments,
    settings: Option<Settings>,
    variables: &HashMap<String, String>,
) -> Result<Inputs, StartError> {
    let variable = |name: &str| {
        variables
            .get(name)
            .filter(|value| !value.is_empty())
            .cloned()
    };
    let base =
        |name: &str, text: Option<String>| text.map(|text| Base::parse(name, &text)).transpose();
    let client = |id: &str, secret: &str| {
        let (id, secret) = variable(id).zip(variable(secret))?;
        Some(Credentials {
            id,
            secret: Secret::new(secret),
        })
    };
    let files = |mut given: Vec<PathBuf>, name: &str| {
        given.extend(variable(name).map(PathBuf::from));
        given
    };
    let advisories = arguments.advisories.or_else(|| variable("ADVISORIES_URL"));
    let advisories = advisories.unwrap_or_else(|| ADVISORIES.into());
    let advisories = Some(advisories).filter(|url| url != "off");
    let others = arguments.other_images.iter();
    let connect_to = arguments.connect_to.iter().map(|rule| {
        rule.split_once('=')
            .map(|(from, to)| (from.to_ascii_lowercase(), to.to_owned()))
            .ok_or_else(|| format!("--connect-to {rule:?} is not HOST:PORT=HOST:PORT"))
    });
    Ok(Inputs {
        edge: base("EDGE_URL", variable("EDGE_URL"))?,
        images: base("IMAGES_URL", variable("IMAGES_URL"))?,
        origin: base("ORIGIN_URL", variable("ORIGIN_URL"))?,
        operator: base("OPERATOR_URL", variable("OPERATOR_URL"))?,
        client: client("CLIENT_ID", "CLIENT_SECRET"),
        link_keys: variable("LINK_KEYS").map(Secret::new),
        prometheus: base(
            "PROMETHEUS_URL",
            arguments.prometheus.or_else(|| variable("PROMETHEUS_URL")),
        )?,
        advisories: base("ADVISORIES_URL", advisories)?,
        others: others
            .map(|url| Base::parse("--other-images", url))
            .collect::<Result<_, _>>()?,
        access_logs: files(arguments.access_log, "ACCESS_LOG"),
        service_logs: files(arguments.service_log, "SERVICE_LOG"),
        source: arguments
            .source
            .or_else(|| variable("SOURCE_TREE").map(PathBuf::from)),
        known: known(variables),
        settings,
        connect_to: connect_to.collect::<Result<_, _>>()?,
        intrusive: arguments.intrusive,
    })
}

/// Secrets of the environment, by their names' endings: those of `.run/env`, Signet's own and providers' keys.
fn known(variables: &HashMap<String, String>) -> Vec<Known> {
    const ENDINGS: [&str; 6] = [
        "_KEY",
        "_KEYS",
        "_SECRET",
        "_PASSWORD",
        "_TOKEN",
        "SECRET_ACCESS_KEY",
    ];
    const SHORTEST: usize = 16;
    let mut known: Vec<Known> = Vec::new();
    for (name, value) in variables {
        let is_secret = ENDINGS.iter().any(|ending| name.ends_with(ending));
        // A path names a secret, it is none.
        if is_secret && value.len() >= SHORTEST && !value.starts_with('/') {
            known.push(Known {
                name: name.clone(),
                value: Secret::new(value.clone()),
            });
        }
        // `…_KEYS_FILE`: the secret stands in the file.
        let in_file = name
            .strip_suffix("_FILE")
            .is_some_and(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)));
        if let Some(text) = in_file
            .then(|| std::fs::read_to_string(value).ok())
            .flatten()
            && text.trim().len() >= SHORTEST
        {
            known.push(Known {
                name: name.clone(),
                value: Secret::new(text.trim()),
            });
        }
    }
    known.sort_by(|a, b| a.name.cmp(&b.name));
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_the_names_of_their_variables() {
        let variables = [
            ("LINK_KEYS", "k1:0123456789012345"),
            ("CLIENT_SECRET", "0123456789012345"),
            ("CLIENT_ID", "0123456789012345"),
            ("OPENAI_API_KEY", "0123456789012345"),
            ("SHORT_KEY", "short"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let names: Vec<String> = known(&variables.into())
            .into_iter()
            .map(|known| known.name)
            .collect();
        assert_eq!(names, ["CLIENT_SECRET", "LINK_KEYS", "OPENAI_API_KEY"]);
    }
}
