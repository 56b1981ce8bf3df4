//! The rows as people and programs read them.

use std::fmt::Write;

use serde::Serialize;

/// How an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Tried, and as it should be.
    Pass,
    /// Tried, and broken.
    Fail,
    /// Not tried; the evidence says why.
    Skipped,
}

/// One item of the checklist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Stable name.
    pub id: &'static str,
    /// What ought to be true.
    pub title: &'static str,
    /// Whether it is.
    pub status: Status,
    /// What was done and seen. Never holds a secret.
    pub evidence: String,
}

/// Columns of a line of evidence.
const WIDTH: usize = 100;

/// The rows as text, and a last line that counts them.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let widest = rows.iter().map(|row| row.id.len()).max().unwrap_or(0);
    for row in rows {
        let mark = match row.status {
            Status::Pass => "pass",
            Status::Fail => "FAIL",
            Status::Skipped => "skip",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{mark}  {:widest$}  {}", row.id, row.title);
        for line in wrapped(&row.evidence) {
            let _ = writeln!(text, "      {:widest$}    {line}", "");
        }
    }
    let count = |status| rows.iter().filter(|row| row.status == status).count();
    let _ = writeln!(
        text,
        "{} passed, {} failed, {} skipped",
        count(Status::Pass),
        count(Status::Fail),
        count(Status::Skipped)
    );
    text
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_counts_its_rows_and_loses_no_word() {
        let row = |id, status, evidence: &str| Row {
            id,
            title: "A thing is so",
            status,
            evidence: evidence.into(),
        };
        let long = "word ".repeat(60);
        let text = table(&[
            row("one", Status::Pass, &long),
            row("second", Status::Fail, "saw nothing"),
            row("third", Status::Skipped, "not given"),
        ]);
        assert!(text.ends_with("1 passed, 1 failed, 1 skipped\n"), "{text}");
        assert!(text.contains("FAIL  second") && text.contains("pass  one "));
        assert_eq!(text.matches("word").count(), 60);
        assert!(text.lines().all(|line| line.len() < 130));
    }
}
