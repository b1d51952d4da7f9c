//! What can be done with a webhook: its secret replaced, its events delivered again.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::input::{Fields, check_secret};
use crate::domain::error::FieldError;
use crate::domain::units::ConfigDuration;
use crate::domain::validation::FieldErrors;
use crate::http::dto::common::word_document;
use crate::http::extract::validate::{ApiInput, PasswordText, date_time, word};
use crate::service::{ReplayOrder, ReplayScope, ReplayStart, SecretRotation as RotationOrder};

/// How long a former secret signs by default, and at most.
const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);
const MAX_OVERLAP: Duration = Duration::from_hours(24 * 30);

/// How the secret of a webhook is replaced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "overlap": "24h" })))]
pub struct SecretRotation {
    /// How long deliveries are signed with the former secret as well, such as `30m` or `24h`; at most 30d, and `0s` if the
    /// former secret has leaked. Default: `24h`.
    #[schema(pattern = "^[0-9]+(ms|s|m|h|d)$")]
    overlap: Option<String>,
    /// The new secret: `whsec_` and the Base64 form of 24 to 64 bytes. Default: the gateway generates one.
    #[schema(value_type = Option<String>, format = Password)]
    secret: Option<PasswordText>,
}

impl ApiInput for SecretRotation {
    type Checked = RotationOrder;

    fn checked(self) -> Result<RotationOrder, Vec<FieldError>> {
        let mut errors = FieldErrors::new();
        let parsed = self.overlap.as_deref().map(|text| match ConfigDuration::parse(text) {
            Ok(overlap) if overlap.0 <= MAX_OVERLAP => Ok(overlap.0),
            Ok(_) => Err(format!("must be at most {}", ConfigDuration(MAX_OVERLAP))),
            Err(_) => Err("must be a duration such as `30m` or `24h`".to_owned()),
        });
        let overlap = errors.take("/overlap", parsed).unwrap_or(DEFAULT_OVERLAP);
        let secret = check_secret(self.secret, &mut errors);
        errors.into_result(RotationOrder { overlap, secret })
    }
}

/// Which events are delivered to a webhook again: those after one, or those since a time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(examples(json!({ "since": "2026-11-22T00:00:00Z", "only": "failed" })))]
pub struct ReplayRequest {
    /// Those after the event with this sequence number.
    after: Option<u64>,
    /// Those of this time and later.
    #[serde(default, deserialize_with = "date_time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only those before this time.
    #[serde(default, deserialize_with = "date_time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Only those of these types, by exact names or `result.*`. Default: those that the webhook gets.
    #[schema(min_items = 1, max_items = 200)]
    types: Option<Vec<String>>,
    /// Only those whose deliveries have failed, or all. Default: `failed`.
    #[serde(default, deserialize_with = "word")]
    only: Option<ReplaySelection>,
}

word_document! {
    /// Which of a webhook's events are delivered again.
    pub enum ReplaySelection into ReplayScope {
        /// Those whose deliveries have failed for good.
        Failed,
        /// All, those that were delivered included.
        All,
    }
}

impl ApiInput for ReplayRequest {
    type Checked = ReplayOrder;

    fn checked(self) -> Result<ReplayOrder, Vec<FieldError>> {
        let Self { after, since, until, types, only } = self;
        let mut errors = FieldErrors::new();
        let start = match (after, since) {
            (Some(sequence), None) if i64::try_from(sequence).is_err() => {
                errors.push(FieldError::invalid("/after", "must be a sequence number, at most 9223372036854775807"));
                None
            }
            (Some(sequence), None) => Some(ReplayStart::After(sequence)),
            (None, Some(time)) => Some(ReplayStart::Since(time)),
            (None, None) => {
                errors
                    .push(FieldError::missing("/since", "is missing; or name the event before the first with `after`"));
                None
            }
            (Some(_), Some(_)) => {
                errors.push(FieldError::invalid("/after", "cannot be combined with `since`: send one of them"));
                None
            }
        };
        if since.zip(until).is_some_and(|(since, until)| until <= since) {
            errors.push(FieldError::invalid("/until", "must be later than since"));
        }
        let fields = Fields {
            url: None,
            description: None,
            types: types.as_deref(),
            names: [("/connections", None), ("/assessments", None)],
            max_in_flight: None,
            requests_per_second: None,
        };
        fields.check(&mut errors);
        let only = only.map_or(ReplayScope::Failed, Into::into);
        match start {
            Some(start) => errors.into_result(ReplayOrder { start, until, types: types.unwrap_or_default(), only }),
            None => Err(errors.into_errors()),
        }
    }
}
