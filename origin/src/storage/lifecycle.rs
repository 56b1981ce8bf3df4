//! The bucket's lifecycle rules: which ones Signet needs, and what a change would do to those that are there.
//!
//! R2 and S3 take the same call with different bounds: R2 knows prefix rules only and one colder class, S3 moves nothing
//! to its colder class before day 30. Expiry must lie after a move. Both count from the object's last write.

use std::fmt;

use serde::Serialize;

use super::{StorageSettings, StoreError};

/// Days that results and uploads are kept (the contract's layout).
pub const RESULT_DAYS: u32 = 30;
/// Days that previews are kept.
pub const PREVIEW_DAYS: u32 = 1;
/// Days after which an upload in parts that nobody finished is dropped.
const PARTS_DAYS: u32 = 2;
/// Most rules that a bucket takes.
pub const MOST_RULES: usize = 1000;
/// Ids of our rules begin like this; all others are the operator's.
pub const OURS: &str = "signet-";

/// A rule as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name.
    pub id: String,
    /// Keys it applies to; empty for all.
    pub prefix: String,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Whether it applies only to objects of some tags or sizes.
    pub narrowed: bool,
    /// Days after which an object is removed.
    pub expire_days: Option<i32>,
    /// Days after which an object moves, and the class it moves to.
    pub moves: Vec<(i32, String)>,
    /// Days after which an unfinished upload in parts is dropped.
    pub parts_days: Option<i32>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.prefix.is_empty() {
            "everything"
        } else {
            &self.prefix
        };
        write!(f, "{:<24} {prefix:<12}", self.id)?;
        for (days, class) in &self.moves {
            write!(f, " to {class} after {days} d;")?;
        }
        if let Some(days) = self.expire_days {
            write!(f, " removed after {days} d;")?;
        }
        if let Some(days) = self.parts_days {
            write!(f, " unfinished parts dropped after {days} d;")?;
        }
        if self.narrowed {
            f.write_str(" only some tags or sizes;")?;
        }
        if self.disabled {
            f.write_str(" switched off;")?;
        }
        Ok(())
    }
}

/// What would change, told before anything is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The operator's own rules: they stay as they are.
    pub theirs: Vec<Rule>,
    /// Rules of ours that are not there yet.
    pub added: Vec<Rule>,
    /// Rules of ours that say something else: before and after.
    pub changed: Vec<(Rule, Rule)>,
    /// Rules of ours that are right.
    pub right: Vec<Rule>,
    /// Rules of an older version of ours that go.
    pub dropped: Vec<Rule>,
    /// What the operator's own rules do to our objects.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Holds what is there against what is wanted.
    ///
    /// # Errors
    /// [`StoreError::Settings`] when the bucket would have too many rules.
    pub fn new(present: Vec<Rule>, wanted: Vec<Rule>) -> Result<Self, StoreError> {
        let (ours, theirs): (Vec<_>, Vec<_>) = present
            .into_iter()
            .partition(|rule| rule.id.starts_with(OURS));
        if theirs.len() + wanted.len() > MOST_RULES {
            return Err(StoreError::Settings(format!(
                "the bucket has {} rules of its own, and takes {MOST_RULES} in all",
                theirs.len()
            )));
        }
        let mut plan = Self {
            warnings: theirs.iter().filter_map(warning).collect(),
            theirs,
            ..Self::default()
        };
        for rule in &ours {
            if !wanted.iter().any(|wanted| wanted.id == rule.id) {
                plan.dropped.push(rule.clone());
            }
        }
        for wanted in wanted {
            match ours.iter().find(|rule| rule.id == wanted.id) {
                None => plan.added.push(wanted),
                Some(rule) if *rule == wanted => plan.right.push(wanted),
                Some(rule) => plan.changed.push((rule.clone(), wanted)),
            }
        }
        Ok(plan)
    }

    /// Whether there is nothing to do.
    pub fn is_done(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.dropped.is_empty()
    }

    /// The plan as lines for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.theirs.iter().map(|rule| format!("  stays    {rule}")));
        lines.extend(self.right.iter().map(|rule| format!("  is right {rule}")));
        lines.extend(self.dropped.iter().map(|rule| format!("- drop     {rule}")));
        for (before, after) in &self.changed {
            lines.push(format!("~ from     {before}"));
            lines.push(format!("~ to       {after}"));
        }
        lines.extend(self.added.iter().map(|rule| format!("+ add      {rule}")));
        lines.extend(self.warnings.iter().map(|text| format!("! {text}")));
        lines
    }
}

/// What one of the operator's rules does to our objects, when it does anything.
fn warning(rule: &Rule) -> Option<String> {
    if rule.disabled {
        return None;
    }
    let touches = |ours: &str| ours.starts_with(&rule.prefix) || rule.prefix.starts_with(ours);
    let id = &rule.id;
    if rule.expire_days.is_some() && touches("kept/") {
        return Some(format!(
            "your rule {id:?} removes pictures that their users chose to keep"
        ));
    }
    let early = rule
        .expire_days
        .is_some_and(|days| days < RESULT_DAYS.cast_signed());
    if early && (touches("generated/") || touches("uploads/")) {
        return Some(format!(
            "your rule {id:?} removes pictures before their {RESULT_DAYS} days are over"
        ));
    }
    let frozen = rule
        .moves
        .iter()
        .any(|(_, class)| ["GLACIER", "DEEP_ARCHIVE"].contains(&class.as_str()));
    let pictures = ["generated/", "kept/", "uploads/"];
    if frozen && pictures.into_iter().any(touches) {
        return Some(format!(
            "your rule {id:?} moves pictures to a class from which links cannot open them"
        ));
    }
    None
}

/// Which server a bucket is on, as far as its lifecycle differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Cloudflare R2.
    R2,
    /// Amazon S3.
    Amazon,
    /// Any other: it gets plain rules and the operator's word.
    Other,
}

impl Flavour {
    /// Tells by the endpoint's host.
    pub fn of(endpoint: &str) -> Self {
        let rest = endpoint.split("://").nth(1).unwrap_or(endpoint);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.split(':').next().unwrap_or_default();
        if host.ends_with(".r2.cloudflarestorage.com") {
            Self::R2
        } else if host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") {
            Self::Amazon
        } else {
            Self::Other
        }
    }
}

/// The rules that the layout asks for.
///
/// # Errors
/// [`StoreError::Settings`] when the store does not allow the move that is configured.
pub fn wanted(settings: &StorageSettings) -> Result<Vec<Rule>, StoreError> {
    let cold = settings.cold_after_days;
    if cold >= RESULT_DAYS {
        return Err(StoreError::Settings(format!(
            "storage.cold_after_days = {cold}: results are removed after {RESULT_DAYS} days, and a move must come before"
        )));
    }
    if cold > 0 && Flavour::of(&settings.s3.endpoint) == Flavour::Amazon {
        return Err(StoreError::Settings(format!(
            "storage.cold_after_days = {cold}: Amazon S3 moves nothing to its colder class before day 30, when results go"
        )));
    }
    let rule = |name: &str, prefix: &str, days: u32| Rule {
        id: format!("{OURS}{name}"),
        prefix: prefix.into(),
        expire_days: i32::try_from(days).ok(),
        ..Rule::default()
    };
    let mut results = rule("results", "generated/", RESULT_DAYS);
    if cold > 0 {
        results.moves = vec![(
            i32::try_from(cold).unwrap_or(i32::MAX),
            "STANDARD_IA".into(),
        )];
    }
    Ok(vec![
        results,
        rule("uploads", "uploads/", RESULT_DAYS),
        rule("previews", "temp/", PREVIEW_DAYS),
        Rule {
            expire_days: None,
            parts_days: i32::try_from(PARTS_DAYS).ok(),
            ..rule("parts", "", 0)
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::S3Settings;

    fn settings(endpoint: &str, cold_after_days: u32) -> StorageSettings {
        StorageSettings {
            cold_after_days,
            s3: S3Settings {
                endpoint: endpoint.into(),
                ..S3Settings::default()
            },
            ..StorageSettings::default()
        }
    }

    const R2: &str = "https://abc.r2.cloudflarestorage.com";

    fn theirs(prefix: &str, expire_days: Option<i32>) -> Rule {
        Rule {
            id: "logs".into(),
            prefix: prefix.into(),
            expire_days,
            ..Rule::default()
        }
    }

    #[test]
    fn kept_pictures_have_no_rule_and_everything_passing_has_one() {
        let rules = wanted(&settings(R2, 0)).unwrap();
        let days = |prefix: &str| {
            let rule = rules.iter().find(|rule| rule.prefix == prefix);
            rule.and_then(|rule| rule.expire_days)
        };
        assert_eq!(days("generated/"), Some(30));
        assert_eq!(days("uploads/"), Some(30));
        assert_eq!(days("temp/"), Some(1));
        assert!(rules.iter().all(|rule| !rule.prefix.starts_with("kept")));
        assert_eq!(days(""), None, "the rule for parts removes no object");
        assert!(rules.iter().all(|rule| rule.moves.is_empty()));
    }

    #[test]
    fn a_move_comes_only_where_the_store_allows_it_and_before_the_end() {
        let moves =
            |endpoint, days| wanted(&settings(endpoint, days)).map(|rules| rules[0].moves.clone());
        assert_eq!(moves(R2, 7).unwrap(), [(7, "STANDARD_IA".into())]);
        assert!(moves(R2, 30).is_err());
        assert!(moves("https://s3.eu-central-1.amazonaws.com", 7).is_err());
        assert!(moves("https://s3.eu-central-1.amazonaws.com", 0).is_ok());
        assert!(moves("https://storage.example:9000/x", 7).is_ok());
    }

    #[test]
    fn a_plan_keeps_the_operators_rules_and_a_second_one_has_nothing_to_do() {
        let rules = wanted(&settings(R2, 0)).unwrap();
        let old = Rule {
            expire_days: Some(90),
            ..rules[0].clone()
        };
        let retired = Rule {
            id: "signet-old".into(),
            ..theirs("x/", Some(3))
        };
        let present = vec![
            theirs("logs/", Some(3)),
            old.clone(),
            rules[1].clone(),
            retired,
        ];
        let plan = Plan::new(present, rules.clone()).unwrap();
        assert_eq!(plan.theirs, [theirs("logs/", Some(3))]);
        assert_eq!(plan.changed, [(old, rules[0].clone())]);
        assert_eq!(
            (plan.added.len(), plan.right.len(), plan.dropped.len()),
            (2, 1, 1)
        );
        assert!(!plan.is_done() && plan.warnings.is_empty());
        let after = [plan.theirs, rules.clone()].concat();
        assert!(Plan::new(after, rules).unwrap().is_done());
    }

    #[test]
    fn rules_of_the_operator_that_hurt_pictures_are_told() {
        let told = |rule: Rule| {
            let plan = Plan::new(vec![rule], Vec::new()).unwrap();
            plan.warnings.len()
        };
        assert_eq!(told(theirs("", Some(365))), 1);
        assert_eq!(told(theirs("kept/u1/", Some(365))), 1);
        assert_eq!(told(theirs("gen", Some(7))), 1);
        assert_eq!(told(theirs("generated/", Some(60))), 0);
        assert_eq!(told(theirs("logs/", Some(1))), 0);
        assert_eq!(told(theirs("", None)), 0);
        let off = Rule {
            disabled: true,
            ..theirs("", Some(1))
        };
        assert_eq!(told(off), 0);
        let frozen = Rule {
            moves: vec![(1, "GLACIER".into())],
            ..theirs("kept/", None)
        };
        assert_eq!(told(frozen), 1);
    }

    #[test]
    fn a_bucket_that_is_full_of_rules_is_said_to_be() {
        let many = (0..999).map(|n| Rule {
            id: format!("r{n}"),
            ..theirs("x/", None)
        });
        let rules = wanted(&settings(R2, 0)).unwrap();
        let error = Plan::new(many.collect(), rules).unwrap_err();
        assert!(error.to_string().contains("999 rules"), "{error}");
    }
}
