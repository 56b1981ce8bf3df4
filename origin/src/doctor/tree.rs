//! The row about the source tree: no secret of this deployment and nothing that has a key's shape is in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::secrets::{Scanner, shape_in};
use super::visit::Visit;
use super::{Finding, Verdict, ensure};

/// Longer files hold data.
const LONGEST: u64 = 4 << 20;
/// Folders that are not source, where git does not say.
const OTHERS: [&str; 6] = [".git", "target", "node_modules", ".run", "dist", "build"];
/// A line that says so is no leak: the marks of the usual scanners.
const ALLOWED: [&str; 2] = ["gitleaks:allow", "pragma: allowlist secret"];

/// Every file that git tracks, or every file where there is no git.
pub async fn scan(visit: &Visit) -> Verdict {
    let Some(root) = &visit.inputs.source else {
        return Err(Finding::Skipped(
            "no source tree was given (--source, SOURCE_TREE)".into(),
        ));
    };
    let files = tracked(root).or_else(|| walked(root)).unwrap_or_default();
    ensure(!files.is_empty(), || {
        format!("{} holds no file that can be read", root.display())
    })?;
    let scanner = Scanner::new(&visit.inputs.known);
    let mut read = 0usize;
    for file in files {
        let path = root.join(&file);
        let short = std::fs::symlink_metadata(&path)
            .is_ok_and(|meta| meta.is_file() && meta.len() <= LONGEST);
        let Some(bytes) = short.then(|| std::fs::read(&path).ok()).flatten() else {
            continue;
        };
        read += 1;
        let text = String::from_utf8_lossy(&bytes);
        if let Some((line, what)) = leak(&scanner, &text) {
            return Err(Finding::Fail(format!(
                "{}:{line} holds {what}",
                file.display()
            )));
        }
    }
    Ok(format!(
        "{read} files under {}: none holds one of the {} secrets known here, a provider's key or a private key",
        root.display(),
        scanner.known()
    ))
}

/// The first leak of a text: its line and what it is.
fn leak(scanner: &Scanner, text: &str) -> Option<(usize, String)> {
    // Most files hold none: the whole is looked at before its lines are.
    if scanner.known_in(text).is_none() && shape_in(text).is_none() {
        return None;
    }
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if ALLOWED.iter().any(|mark| line.contains(mark)) {
            continue;
        }
        // A private key stands on more than one line.
        let with_next = lines
            .get(at..(at + 2).min(lines.len()))
            .unwrap_or_default()
            .join("\n");
        let shape = if line.contains("-----BEGIN ") {
            shape_in(&with_next)
        } else {
            shape_in(line)
        };
        let what = scanner
            .known_in(line)
            .map(str::to_owned)
            .or(shape.map(str::to_owned));
        if let Some(what) = what {
            return Some((at + 1, what));
        }
    }
    None
}

fn tracked(root: &Path) -> Option<Vec<PathBuf>> {
    let listed = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z"])
        .output()
        .ok()?;
    if !listed.status.success() || listed.stdout.is_empty() {
        return None;
    }
    let names = String::from_utf8(listed.stdout).ok()?;
    Some(names.split_terminator('\0').map(PathBuf::from).collect())
}

fn walked(root: &Path) -> Option<Vec<PathBuf>> {
    let (mut files, mut open) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            let (kind, path) = (entry.file_type().ok()?, entry.path());
            let name = entry.file_name();
            if kind.is_dir() && !OTHERS.iter().any(|other| name == *other) {
                open.push(path);
            } else if kind.is_file() {
                files.push(path.strip_prefix(root).ok()?.to_path_buf());
            }
        }
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_told_by_its_line_unless_the_line_allows_it() {
        let scanner = Scanner::new(&[]);
        let key = format!("sk-{}", "a1B2c3D4e5F6g7H8".repeat(3));
        let text = format!("one\n{key} # gitleaks:allow\nkey = {key}\n");
        assert_eq!(leak(&scanner, &text).unwrap().0, 3);
        assert_eq!(
            leak(&scanner, &text.replace("key =", "gitleaks:allow")),
            None
        );
        let pem = format!(
            "a\n-----BEGIN {}PRIVATE KEY-----\n{}\n",
            "",
            "a1B2c3D4e5F6g7H8".repeat(4)
        );
        assert_eq!(leak(&scanner, &pem), Some((2, "a private key".into())));
    }

    #[test]
    fn a_folder_without_git_is_walked_without_what_is_built() {
        let root = tempfile::tempdir().unwrap();
        for name in ["src/a.rs", "target/b", "node_modules/c"] {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        assert_eq!(walked(root.path()).unwrap(), [PathBuf::from("src/a.rs")]);
    }
}
