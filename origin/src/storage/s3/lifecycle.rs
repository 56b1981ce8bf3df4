//! Reading and writing a bucket's lifecycle rules. The operator's own go back exactly as they came.

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus,
    LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, Transition,
    TransitionDefaultMinimumObjectSize, TransitionStorageClass,
};

use super::failure::{failure, status};
use super::{S3Store, StoreError, code_of};
use crate::storage::lifecycle::{OURS, Plan, Rule};

/// What is there, whole.
struct Present {
    rules: Vec<LifecycleRule>,
    smallest: Option<TransitionDefaultMinimumObjectSize>,
}

impl S3Store {
    /// The bucket's rules, as far as they matter.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn lifecycle(&self) -> Result<Vec<Rule>, StoreError> {
        Ok(self.present().await?.rules.iter().map(seen).collect())
    }

    /// Replaces our rules by the wanted ones, keeps all others, and reads them back.
    ///
    /// # Errors
    /// Any [`StoreError`]; [`StoreError::Other`] when the store shows other rules than it was given.
    pub async fn set_lifecycle(&self, wanted: Vec<Rule>) -> Result<Plan, StoreError> {
        let present = self.present().await?;
        let before: Vec<Rule> = present.rules.iter().map(seen).collect();
        let theirs: Vec<Rule> = before
            .iter()
            .filter(|rule| !rule.id.starts_with(OURS))
            .cloned()
            .collect();
        // Also refuses what would not fit.
        let plan = Plan::new(before, wanted.clone())?;
        if plan.is_done() {
            return Ok(plan);
        }
        let mut rules = present.rules;
        rules.retain(|rule| !rule.id().unwrap_or_default().starts_with(OURS));
        for rule in &wanted {
            rules.push(made(rule)?);
        }
        let configuration = BucketLifecycleConfiguration::builder()
            .set_rules(Some(rules))
            .build()
            .map_err(|error| StoreError::Other(error.to_string()))?;
        self.client
            .put_bucket_lifecycle_configuration()
            .bucket(&self.bucket)
            .lifecycle_configuration(configuration)
            .set_transition_default_minimum_object_size(present.smallest)
            .send()
            .await
            .map_err(failure)?;
        let after = self.lifecycle().await?;
        let checked = Plan::new(after.clone(), wanted)?;
        let sorted = |mut rules: Vec<Rule>| {
            rules.sort_by(|a, b| a.id.cmp(&b.id));
            rules
        };
        if checked.is_done() && sorted(checked.theirs) == sorted(theirs) {
            Ok(plan)
        } else {
            Err(StoreError::Other(
                "the store shows other lifecycle rules than it was given".into(),
            ))
        }
    }

    async fn present(&self) -> Result<Present, StoreError> {
        let asked = self
            .client
            .get_bucket_lifecycle_configuration()
            .bucket(&self.bucket)
            .send()
            .await;
        match asked {
            Ok(found) => Ok(Present {
                smallest: found.transition_default_minimum_object_size,
                rules: found.rules.unwrap_or_default(),
            }),
            Err(error) if status(&error) == Some(404) && has_no_rules(&error) => Ok(Present {
                rules: Vec::new(),
                smallest: None,
            }),
            Err(error) => Err(failure(error)),
        }
    }
}

fn has_no_rules<E: aws_sdk_s3::error::ProvideErrorMetadata>(error: &E) -> bool {
    code_of(error) == "NoSuchLifecycleConfiguration"
}

/// A rule of the server's in our words.
fn seen(rule: &LifecycleRule) -> Rule {
    let filter = rule.filter();
    let and = filter.and_then(|filter| filter.and.as_ref());
    let in_filter = filter
        .and_then(|filter| filter.prefix())
        .or_else(|| and.and_then(|and| and.prefix()));
    // Older rules carry the prefix beside the filter.
    #[allow(deprecated)]
    let prefix = in_filter.or(rule.prefix.as_deref()).unwrap_or_default();
    let sized = filter.is_some_and(|filter| {
        filter.tag.is_some()
            || filter.object_size_greater_than.is_some()
            || filter.object_size_less_than.is_some()
    });
    let moves = rule.transitions.iter().flatten().map(|to| {
        let class = to.storage_class().map(|class| class.as_str().to_owned());
        (to.days().unwrap_or(0), class.unwrap_or_default())
    });
    let expiration = rule.expiration();
    // A date removes whatever there is on that day: as good as at once.
    let expire_days = expiration.and_then(|expiration| {
        expiration
            .days()
            .or_else(|| expiration.date().map(|_| 0))
            .filter(|_| expiration.expired_object_delete_marker() != Some(true))
    });
    let parts = rule.abort_incomplete_multipart_upload.as_ref();
    Rule {
        id: rule.id().unwrap_or_default().to_owned(),
        prefix: prefix.to_owned(),
        disabled: *rule.status() != ExpirationStatus::Enabled,
        narrowed: sized || and.is_some(),
        expire_days,
        moves: moves.collect(),
        parts_days: parts.and_then(|parts| parts.days_after_initiation()),
    }
}

/// A rule of ours in the server's words: by prefix alone, as R2 wants it.
fn made(rule: &Rule) -> Result<LifecycleRule, StoreError> {
    let expiration = rule
        .expire_days
        .map(|days| LifecycleExpiration::builder().days(days).build());
    let transitions: Vec<Transition> = rule
        .moves
        .iter()
        .map(|(days, class)| {
            Transition::builder()
                .days(*days)
                .storage_class(TransitionStorageClass::from(class.as_str()))
                .build()
        })
        .collect();
    let parts = rule.parts_days.map(|days| {
        AbortIncompleteMultipartUpload::builder()
            .days_after_initiation(days)
            .build()
    });
    LifecycleRule::builder()
        .id(&rule.id)
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(&rule.prefix).build())
        .set_expiration(expiration)
        .set_transitions((!transitions.is_empty()).then_some(transitions))
        .set_abort_incomplete_multipart_upload(parts)
        .build()
        .map_err(|error| StoreError::Other(error.to_string()))
}
