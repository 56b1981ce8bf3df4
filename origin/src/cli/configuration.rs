//! `signet config …`.

use clap::Subcommand;

use crate::config::default_file;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Checks the configuration and says what is wrong and where.
    Check,
    /// Prints a file with every setting, its meaning and its default.
    Default,
    /// Prints docs/configuration.md.
    #[command(hide = true)]
    Page,
}

/// docs/configuration.md, whole.
pub(super) fn page() -> String {
    format!(
        "{INTRODUCTION}\n```toml\n{}```\n",
        default_file().trim_start()
    )
}

const INTRODUCTION: &str = "# Configuration

Made by `signet config page`; a test fails when this page is stale.

`signet serve` reads `signet.toml` in the working directory, or the file named by `--config`. Without any file it runs
with the values below. Every value can be overridden by a variable: `[limits.address] burst` is
`SIGNET_LIMITS__ADDRESS__BURST`; lists and numbers are written as in the file. `signet config check` says what is wrong
and where; a bad configuration ends the program with exit code 64 before any port is bound. `signet config default`
prints the file below.

Secrets never stand in the file. They come from variables, or from a file whose name a setting gives:

| what | variable | or a file named by |
|---|---|---|
| link keyring, `kid:base64,…` | `SIGNET_IMAGES__KEYS` | `images.keys_file` |
| edge keyring | `SIGNET_EDGE__KEYS` | `edge.keys_file` |
| TLS private key, PEM | | `server.tls.key_file` |
| the key of a provider of pictures | `SIGNET_PROVIDER__KEY` | `provider.key_file` |
| our secret at the OpenID provider | `SIGNET_AUTH__PROVIDER__CLIENT_SECRET` | `auth.provider.client_secret_file` |
| the S3 secret | `SIGNET_STORAGE__S3__SECRET_ACCESS_KEY` | `storage.s3.secret_access_key_file` |
| the password of Redis | `SIGNET_STATE__PASSWORD` | `state.password_file` |

`signet keys generate` prints a fresh keyring. Without link keys, and only where the service delivers its links itself,
it makes one at its first start and keeps it beside the state.

## Every setting, what it means, and its default

Settings without a default are comments.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_settings_is_not_stale() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        assert_eq!(
            std::fs::read_to_string(file).unwrap(),
            page(),
            "run: signet config page > docs/configuration.md"
        );
    }
}
