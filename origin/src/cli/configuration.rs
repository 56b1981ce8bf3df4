//! `signet config …`.

use clap::Subcommand;

use crate::config::Settings;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Checks the configuration and says what is wrong and where.
    Check,
    /// Prints a file with every setting at its default.
    Default,
}

/// `signet.toml` with every default.
pub(super) fn default_file() -> String {
    toml::to_string_pretty(&Settings::default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_reads_back_as_the_defaults() {
        let read: Settings = toml::from_str(&default_file()).unwrap();
        assert_eq!(read, Settings::default());
    }
}
