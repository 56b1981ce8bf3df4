//! `scheduler_config.json` as it lies in a folder, before a class reads it.

use super::config::{Kind, SchedulerConfig, SchedulerError};
use super::{Scheduler, config};
use serde_json::{Map, Value};

/// The fields of the file. Its own class need not be one that is supported.
#[derive(Debug)]
pub struct SchedulerFile {
    fields: Map<String, Value>,
}

impl SchedulerFile {
    /// Reads the file.
    ///
    /// # Errors
    /// `Json` when it is no JSON object.
    pub fn parse(text: &str) -> Result<Self, SchedulerError> {
        let fields = serde_json::from_str(&without_infinities(text));
        let fields = fields.map_err(|error| SchedulerError::Json(error.to_string()))?;
        Ok(Self { fields })
    }

    /// The class that wrote it.
    pub fn class(&self) -> &str {
        let class = self.fields.get("_class_name").and_then(Value::as_str);
        class.unwrap_or("(none)")
    }

    /// The file as `class` reads it (diffusers' `from_config`): what its writer never chose gives way to the default of
    /// that class.
    ///
    /// # Errors
    /// A class without an implementation here, or an option that would change the picture and is not supported.
    pub fn read_as(&self, class: &str) -> Result<Scheduler, SchedulerError> {
        let kind =
            Kind::from_class(class).ok_or_else(|| SchedulerError::Class(class.to_owned()))?;
        let mut fields = self.fields.clone();
        if let Some(Value::Array(defaulted)) = fields.remove("_use_default_values") {
            for name in defaulted.iter().filter_map(Value::as_str) {
                fields.remove(name);
            }
        }
        translate(kind, &mut fields);
        Scheduler::new(SchedulerConfig::read(kind, fields)?)
    }
}

/// DPM-Solver takes the words of its relatives, DEIS and UniPC, for its own nearest.
fn translate(kind: Kind, fields: &mut Map<String, Value>) {
    let words: [(&str, &[&str], &str); 2] = [
        ("algorithm_type", &["deis"], config::DPM_ALGORITHM),
        ("solver_type", &["logrho", "bh1", "bh2"], config::DPM_SOLVER),
    ];
    for (option, theirs, ours) in words.iter().filter(|_| kind == Kind::DpmPlusPlus) {
        if let Some(value) = fields.get_mut(*option)
            && value.as_str().is_some_and(|word| theirs.contains(&word))
        {
            *value = Value::from(*ours);
        }
    }
}

/// Python writes `-Infinity` into JSON (every DPM-Solver file has one); JSON has no such word.
fn without_infinities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_string = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"]
            .iter()
            .find(|w| rest.starts_with(**w));
        if let (false, Some(word)) = (in_string, word) {
            out.push_str("null");
            rest = rest.get(word.len()..).unwrap_or("");
            continue;
        }
        let mut taken = c.len_utf8();
        if in_string && c == '\\' {
            taken += rest.chars().nth(1).map_or(0, char::len_utf8);
        } else if c == '"' {
            in_string = !in_string;
        }
        out.push_str(rest.get(..taken).unwrap_or(""));
        rest = rest.get(taken..).unwrap_or("");
    }
    out
}
