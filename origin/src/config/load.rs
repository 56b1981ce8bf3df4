//! Reading the configuration: file, then environment, then validation. Nothing is opened before all of it is right.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Settings;

/// Why there is no configuration: what and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {reason}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The file is not TOML, or a setting is unknown or of the wrong type.
    #[error("{place}: {reason}")]
    Invalid {
        /// The file, or the environment.
        place: String,
        /// With line and setting where they are known.
        reason: String,
    },
    /// A secret stands in the file.
    #[error("{}: {setting} is a secret and must come from the environment ({variable}) or a file", file.display())]
    SecretInFile {
        /// The file.
        file: PathBuf,
        /// The setting.
        setting: &'static str,
        /// Its variable.
        variable: &'static str,
    },
}

/// Settings that are secrets, with their variables.
const SECRETS: [(&str, &str); 6] = [
    ("provider.key", "SIGNET_PROVIDER__KEY"),
    (
        "auth.provider.client_secret",
        "SIGNET_AUTH__PROVIDER__CLIENT_SECRET",
    ),
    ("state.password", "SIGNET_STATE__PASSWORD"),
    ("images.keys", "SIGNET_IMAGES__KEYS"),
    ("edge.keys", "SIGNET_EDGE__KEYS"),
    (
        "storage.s3.secret_access_key",
        "SIGNET_STORAGE__S3__SECRET_ACCESS_KEY",
    ),
];

/// Reads `file` (none: defaults), overridden by `environment`'s variables `SIGNET_SECTION__KEY`.
///
/// # Errors
/// [`ConfigError`] for the first thing that is wrong.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    // Over the defaults, so that a variable may name one field of a group.
    let mut table = Table::try_from(Settings::default()).map_err(|error| ConfigError::Invalid {
        place: "the defaults".into(),
        reason: error.to_string(),
    })?;
    let mut place = "the configuration".to_owned();
    if let Some(file) = file {
        place = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError::Read {
            file: file.into(),
            reason: error.to_string(),
        })?;
        // Typed first, so that the error knows the line.
        toml::from_str::<Settings>(&text).map_err(|error| ConfigError::Invalid {
            place: place.clone(),
            reason: with_line(&error, &text),
        })?;
        let written: Table =
            text.parse()
                .map_err(|error: toml::de::Error| ConfigError::Invalid {
                    place: place.clone(),
                    reason: with_line(&error, &text),
                })?;
        for (setting, variable) in SECRETS {
            if find(&written, setting).is_some() {
                return Err(ConfigError::SecretInFile {
                    file: file.into(),
                    setting,
                    variable,
                });
            }
        }
        merge(&mut table, written);
    }
    let mut variables: Vec<(String, String)> =
        environment.filter(|(name, _)| is_ours(name)).collect();
    variables.sort();
    for (name, value) in variables {
        let path: Vec<String> = name
            .trim_start_matches("SIGNET_")
            .split("__")
            .map(str::to_lowercase)
            .collect();
        let before = table.clone();
        let failed = |reason: String| ConfigError::Invalid {
            place: format!("the variable {name}"),
            reason,
        };
        set(&mut table, &path, Value::String(value.clone())).map_err(failed)?;
        if let Err(as_text) = Settings::try_from_table(&table) {
            // Numbers, switches and lists are written as in the file.
            let typed = format!("x = {value}")
                .parse::<Table>()
                .ok()
                .and_then(|mut one| one.remove("x"));
            let Some(typed) = typed else {
                return Err(failed(as_text));
            };
            table = before;
            set(&mut table, &path, typed).map_err(failed)?;
            Settings::try_from_table(&table).map_err(|_| failed(as_text))?;
        }
    }
    let settings = Settings::try_from_table(&table).map_err(|reason| ConfigError::Invalid {
        place: place.clone(),
        reason,
    })?;
    settings
        .validate()
        .map_err(|reason| ConfigError::Invalid { place, reason })?;
    Ok(settings)
}

/// Whether any of the variables is a setting.
pub fn names_any(variables: &std::collections::HashMap<String, String>) -> bool {
    variables.keys().any(|name| is_ours(name))
}

/// `SIGNET_SECTION__KEY`; other variables that begin with `SIGNET_` are the scripts'.
fn is_ours(name: &str) -> bool {
    name.strip_prefix("SIGNET_")
        .is_some_and(|rest| rest.contains("__"))
}

impl Settings {
    fn try_from_table(table: &Table) -> Result<Self, String> {
        Value::Table(table.clone())
            .try_into()
            .map_err(|error: toml::de::Error| without_value(&error))
    }
}

/// What is expected, and the setting's name; never the value at fault, which may be a secret.
fn without_value(error: &toml::de::Error) -> String {
    let text = error.message().to_owned();
    if text.starts_with("invalid") {
        text.split(", expected")
            .nth(1)
            .map_or("has the wrong form".into(), |end| format!("expected{end}"))
    } else {
        text
    }
}

/// The same with the place in the file and the name that stands there. The error's own words would show the whole line,
/// and a secret under a mistyped name with it.
fn with_line(error: &toml::de::Error, text: &str) -> String {
    let told = without_value(error);
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return told;
    };
    let line = before.matches('\n').count();
    let written = text.lines().nth(line).unwrap_or_default();
    match written.split_once('=') {
        Some((name, _)) => format!("line {}, {}: {told}", line + 1, name.trim()),
        None => format!("line {}: {told}", line + 1),
    }
}

/// Lays one table over another, section by section.
fn merge(below: &mut Table, above: Table) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => merge(inner, over),
            (_, value) => {
                below.insert(name, value);
            }
        }
    }
}

fn find<'a>(table: &'a Table, setting: &str) -> Option<&'a Value> {
    let (path, last) = setting.rsplit_once('.')?;
    let table = path
        .split('.')
        .try_fold(table, |table, name| table.get(name)?.as_table())?;
    table.get(last)
}

fn set(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    match path {
        [] => Err("names no setting".into()),
        [last] => {
            table.insert(last.clone(), value);
            Ok(())
        }
        [first, rest @ ..] => match table
            .entry(first.clone())
            .or_insert_with(|| Value::Table(Table::new()))
        {
            Value::Table(inner) => set(inner, rest, value),
            _ => Err(format!("{first} is no section")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("signet.toml");
        std::fs::write(&file, text).unwrap();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(Some(&file), variables).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_at_all_is_a_working_configuration() {
        assert_eq!(load(None, std::iter::empty()).unwrap(), Settings::default());
    }

    #[test]
    fn variables_override_the_file_in_every_type() {
        let ring = format!("a:{}=", "A".repeat(43));
        let settings = with(
            "[auth]\ntoken_minutes = 20\n",
            &[
                ("SIGNET_AUTH__TOKEN_MINUTES", "45"),
                ("SIGNET_SERVER__BIND", "127.0.0.1:0"),
                ("SIGNET_LIMITS__ADDRESS__BURST", "7"),
                ("SIGNET_LIMITS__ADDRESS__PER_MINUTE", "9"),
                ("SIGNET_IMAGES__ALLOWED_HOSTS", "[\"a.example\"]"),
                ("SIGNET_IMAGES__KEYS", &ring),
                ("SIGNET_CACHE", "ignored"),
            ],
        );
        let settings = settings.unwrap();
        assert_eq!(settings.auth.token_minutes, 45);
        assert_eq!(settings.limits.address.burst, 7);
        assert_eq!(settings.images.allowed_hosts, ["a.example"]);
        assert_eq!(settings.images.keys.unwrap().expose(), ring);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, variables, words) in [
            (
                "[auth]\ntoken_minutes = 61\n",
                vec![],
                vec!["signet.toml", "auth.token_minutes", "15 to 60"],
            ),
            (
                "[auth]\ntokn_minutes = 20\n",
                vec![],
                vec!["signet.toml", "tokn_minutes", "line 2"],
            ),
            ("[auth\n", vec![], vec!["signet.toml", "line 1"]),
            (
                "[images]\nkeys = \"a:b\"\n",
                vec![],
                vec!["images.keys", "SIGNET_IMAGES__KEYS"],
            ),
            (
                "",
                vec![("SIGNET_AUTH__NOPE", "1")],
                vec!["SIGNET_AUTH__NOPE", "nope"],
            ),
            (
                "",
                vec![("SIGNET_AUTH__TOKEN_MINUTES", "soon")],
                vec!["SIGNET_AUTH__TOKEN_MINUTES"],
            ),
            (
                "",
                vec![("SIGNET_EDGE__REQUIRE", "true")],
                vec!["SIGNET_EDGE__KEYS"],
            ),
            (
                "[limits]\nenabled = false\n[server]\nbind = \"0.0.0.0:80\"\n",
                vec![],
                vec!["limits.enabled"],
            ),
            (
                "[server]\nurl = \"https://a.example\"\n[images]\nurl = \"https://a.example\"\n",
                vec![],
                vec!["share the host"],
            ),
        ] {
            let error = with(text, &variables).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{word:?} is not in {error:?}");
            }
        }
    }

    #[test]
    fn settings_of_the_engine_that_cannot_work_are_refused() {
        for (text, words) in [
            ("gpus = []", "infer.gpus"),
            ("gpus = [1, 0, 1]", "twice"),
            ("threads = 5000", "infer.threads"),
            ("vae_tile = 100", "infer.vae_tile"),
            ("scheduler = \"None\"", "infer.scheduler"),
            ("models = []", "infer.models"),
        ] {
            let error = with(&format!("[infer]\n{text}\n"), &[]).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        with("[infer]\ngpus = [0, 1]\n", &[]).unwrap();
    }

    #[test]
    fn no_error_shows_a_value() {
        let error = with("", &[("SIGNET_QUEUE__DEPTH", "hunter2")]).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        for (text, name) in [
            (
                "\n[edge]\nkey = \"e1:hunter2\"\n",
                "line 3, key: unknown field `key`",
            ),
            ("[queue]\ndepth = \"hunter2\"\n", "line 2, depth: expected "),
            ("[edge]\nkeys = \"hunter2\n", "line 2, keys: "),
        ] {
            let error = with(text, &[]).unwrap_err();
            assert!(
                !error.contains("hunter2") && error.contains(name),
                "{error}"
            );
        }
    }
}
