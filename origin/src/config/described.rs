//! `signet.toml` with every setting, its default and what it means. The meanings are the settings' own doc comments,
//! read from their sources when the program is built: nothing is said twice.

use std::fmt::Write;

use toml::{Table, Value};

use super::Settings;

/// Where the struct that a section is read into is defined: its name and its source.
fn source_of(section: &str) -> Option<(&'static str, &'static str)> {
    let source = match section {
        "" => ("Settings", include_str!("mod.rs")),
        "server" => ("ServerSettings", include_str!("server.rs")),
        "server.tls" => ("TlsSettings", include_str!("../tls/mod.rs")),
        "images" => ("ImagesSettings", include_str!("server.rs")),
        "edge" => ("EdgeSettings", include_str!("../edge_trust/mod.rs")),
        "auth" => ("AuthSettings", include_str!("../auth/settings.rs")),
        "auth.provider" => (
            "ProviderSettings",
            include_str!("../auth/provider/settings.rs"),
        ),
        "limits" => ("LimitSettings", include_str!("../quota/settings.rs")),
        "plans.NAME" => ("PlanSettings", include_str!("../quota/plans.rs")),
        "storage" => ("StorageSettings", include_str!("../storage/settings.rs")),
        "storage.s3" => ("S3Settings", include_str!("../storage/settings.rs")),
        "state" => ("StateSettings", include_str!("../state/mod.rs")),
        "infer" => ("Settings", include_str!("../infer/settings.rs")),
        "provider" => ("Settings", include_str!("../provider/settings.rs")),
        "queue" => ("Settings", include_str!("../schedule/settings.rs")),
        "uploads" => ("UploadSettings", include_str!("../upload/settings.rs")),
        "uploads.image" => ("Limits", include_str!("../upload/settings.rs")),
        "provenance" => (
            "ProvenanceSettings",
            include_str!("../provenance/settings.rs"),
        ),
        "sweep" => ("SweepSettings", include_str!("../sweep/settings.rs")),
        "telemetry" => ("TelemetrySettings", include_str!("../telemetry/mod.rs")),
        _ => return None,
    };
    Some(source)
}

/// A setting as its struct defines it.
struct Field {
    name: &'static str,
    /// The Rust type, as it is written.
    kind: &'static str,
    /// Lines of its doc comment.
    meaning: Vec<&'static str>,
}

/// The fields of a section's struct, in order.
fn fields(section: &str) -> Vec<Field> {
    let Some((name, source)) = source_of(section) else {
        return Vec::new();
    };
    let begin = format!("pub struct {name} {{\n");
    let body = source.split_once(&begin).map_or("", |(_, rest)| rest);
    let body = body.split("\n}").next().unwrap_or("");
    let mut fields = Vec::new();
    let mut meaning = Vec::new();
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            meaning.push(text.trim());
        } else if let Some((name, kind)) = line
            .strip_prefix("pub ")
            .and_then(|line| line.split_once(": "))
        {
            fields.push(Field {
                name,
                kind: kind.trim_end_matches(','),
                meaning: std::mem::take(&mut meaning),
            });
        }
    }
    fields
}

/// What may stand for a setting that has no default.
fn example(kind: &str) -> &'static str {
    match kind {
        "Option<PathBuf>" | "Option<std::path::PathBuf>" => "\"FILE\"",
        "Option<SocketAddr>" => "\"ADDRESS:PORT\"",
        "Option<RateSettings>" => "{ per_minute = 60, burst = 20 }",
        _ => "NUMBER",
    }
}

/// A file with every setting at its default; those without one, and secrets, are comments.
pub fn default_file() -> String {
    let mut out = String::new();
    if let Ok(defaults) = Table::try_from(Settings::default()) {
        write_section(&mut out, "", &defaults);
    }
    out
}

/// A section's own settings, then the sections in it.
fn write_section(out: &mut String, section: &str, defaults: &Table) {
    let fields = fields(section);
    if fields.is_empty() {
        // Rates, which are alike, and tables whose keys are the operator's: what they mean stands above their names.
        for (name, value) in defaults {
            write_line(out, format_args!("{name} = {value}"));
        }
    }
    let is_section = |field: &&Field| matches!(defaults.get(field.name), Some(Value::Table(_)));
    let (sections, own): (Vec<&Field>, Vec<&Field>) = fields.iter().partition(is_section);
    for (at, field) in own.into_iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        write_meaning(out, field);
        match defaults.get(field.name) {
            Some(value) => write_line(out, format_args!("{} = {value}", field.name)),
            None => write_absent(out, section, field),
        }
    }
    for field in sections {
        let Some(Value::Table(inner)) = defaults.get(field.name) else {
            continue;
        };
        let name = match section {
            "" => field.name.to_owned(),
            _ => format!("{section}.{}", field.name),
        };
        out.push('\n');
        write_meaning(out, field);
        write_line(out, format_args!("[{name}]"));
        write_section(out, &name, inner);
        if name == "plans" {
            write_plan(out);
        }
    }
}

/// There is no plan by default, so all of one is a comment.
fn write_plan(out: &mut String) {
    out.push_str("# [plans.NAME]\n");
    for field in fields("plans.NAME") {
        out.push('\n');
        write_meaning(out, &field);
        write_absent(out, "plans.NAME", &field);
    }
}

fn write_meaning(out: &mut String, field: &Field) {
    for line in &field.meaning {
        write_line(out, format_args!("# {line}"));
    }
}

fn write_absent(out: &mut String, section: &str, field: &Field) {
    if field.kind == "Option<Secret>" {
        let path = format!("{section}.{}", field.name);
        let variable = path.to_uppercase().replace('.', "__");
        write_line(out, format_args!("# {}: SIGNET_{variable}", field.name));
    } else {
        let value = example(field.kind);
        write_line(out, format_args!("# {} = {value}", field.name));
    }
}

fn write_line(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_holds_every_default_and_nothing_else() {
        let read: Table = default_file().parse().unwrap();
        assert_eq!(read, Table::try_from(Settings::default()).unwrap());
    }

    /// Sections with a struct of their own, found from the top.
    fn sections(section: &str, defaults: &Table, found: &mut Vec<String>) {
        found.push(section.to_owned());
        for (name, value) in defaults {
            let path = format!("{section}.{name}");
            let path = path.trim_start_matches('.');
            if let (Value::Table(inner), true) = (value, source_of(path).is_some()) {
                sections(path, inner, found);
            }
        }
    }

    #[test]
    fn every_setting_says_what_it_means() {
        let mut found = vec!["plans.NAME".to_owned()];
        sections(
            "",
            &Table::try_from(Settings::default()).unwrap(),
            &mut found,
        );
        assert!(found.len() > 15, "{found:?}");
        for section in found {
            let fields = fields(&section);
            assert!(!fields.is_empty(), "{section} has no fields");
            for field in fields {
                let name = field.name;
                assert!(!field.meaning.is_empty(), "{section}.{name}");
            }
        }
    }

    #[test]
    fn what_is_no_default_is_shown_as_a_comment() {
        let file = default_file();
        for line in [
            "# keys: SIGNET_IMAGES__KEYS",
            "# certificate_file = \"FILE\"",
            "# user_hour = NUMBER",
        ] {
            assert!(file.lines().any(|other| other == line), "{line}");
        }
    }
}
