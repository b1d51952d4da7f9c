//! How `ThinkExam`'s webhooks are received, as written, and its validation.

use serde::{Deserialize, Deserializer};

use super::exam_date::DateFormat;
use super::reader_settings::{BodyForm, MatchStep, ReaderSettings};
use crate::domain::results::{AttemptRule, FoldSettings, Regression, Repetition, ScoringRules, Unscored};
use crate::secret::{Secret, SecretRef};
use crate::vendors::{AdapterContext, SettingError, SettingErrors};

/// Minimum length of the secret part of the receiver's address.
const MIN_TOKEN: usize = 16;

/// Whether results are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookMode {
    /// They are not.
    #[default]
    Off,
    /// The vendor sends them.
    Webhook,
}

/// The status that answers a webhook with a wrong key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRefusal {
    /// 401.
    #[default]
    Unauthorized,
    /// 200, for a vendor that would send it again without end.
    Ok,
}

impl<'de> Deserialize<'de> for OnRefusal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u16::deserialize(deserializer)? {
            401 => Ok(Self::Unauthorized),
            200 => Ok(Self::Ok),
            _ => Err(serde::de::Error::custom("must be 401 or 200")),
        }
    }
}

/// How webhooks are received, as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ResultsSettings {
    /// Whether results are received.
    pub mode: WebhookMode,
    /// The vendor's keys; several are valid while they are rotated.
    pub keys: Vec<SecretRef>,
    /// The secret part of the receiver's address.
    #[serde(deserialize_with = "crate::secret::optional")]
    pub path_token: Option<SecretRef>,
    /// The form of the body.
    pub form: BodyForm,
    /// How the test is found, the first way first.
    #[serde(rename = "match")]
    pub match_by: Vec<MatchStep>,
    /// What a second result of one candidate at one test is.
    pub second_result: Repetition,
    /// The values of `status` that mean that the test is finished.
    pub completes: Vec<String>,
    /// The field of the older form that holds the points; empty for none.
    pub older_score_member: String,
    /// The form of `EXAM_DATE`, such as `DD-MM-YYYY`; empty: it is not read.
    pub exam_date_format: String,
    /// The status that answers a webhook with a wrong key.
    pub on_refusal: OnRefusal,
    /// The tenant that owns what is matched with no tenant's candidate; empty for the only tenant there is.
    pub owner: String,
}

impl Default for ResultsSettings {
    fn default() -> Self {
        Self {
            mode: WebhookMode::default(),
            keys: Vec::new(),
            path_token: None,
            form: BodyForm::default(),
            match_by: vec![MatchStep::Path, MatchStep::TestId, MatchStep::OnlyOpen],
            second_result: Repetition::default(),
            completes: vec!["COMPLETED".to_owned()],
            older_score_member: String::new(),
            exam_date_format: String::new(),
            on_refusal: OnRefusal::default(),
            owner: String::new(),
        }
    }
}

/// Validated settings of receiving webhooks.
#[derive(Debug, Clone)]
pub struct ReceiverSettings {
    /// The vendor's keys; empty: none is asked for.
    pub keys: Vec<Secret>,
    /// The secret part of the receiver's address.
    pub path_token: Secret,
    /// How webhooks are read.
    pub reader: ReaderSettings,
    /// Whether a webhook that names no test is matched with the candidate's only open booking.
    pub only_open: bool,
    /// What a second result of one candidate at one test is.
    pub second_result: Repetition,
    /// The status that answers a webhook with a wrong key.
    pub on_refusal: OnRefusal,
    /// The tenant that owns what is matched with no tenant's candidate.
    pub owner: String,
}

impl ResultsSettings {
    /// Validates the settings and reads the secrets. `None` if results are not received.
    ///
    /// # Errors
    /// Every invalid setting, with its key below `results`.
    pub fn checked(self, context: &AdapterContext<'_>) -> Result<Option<ReceiverSettings>, Vec<SettingError>> {
        let mut errors = SettingErrors::default();
        let mut keys = Vec::new();
        for (index, key) in self.keys.iter().enumerate() {
            keys.extend(errors.check(&format!("keys.{index}"), key.resolve(context.secrets)));
        }
        let token = self.path_token.as_ref().map(|token| token.resolve(context.secrets).and_then(checked_token));
        let token = token.and_then(|token| errors.check("path_token", token));
        errors.check("match", checked_steps(&self.match_by));
        if self.completes.iter().all(|word| word.trim().is_empty()) {
            errors.push("completes", "must name a status, such as \"COMPLETED\": without one no test is ever finished");
        }
        let date = Some(&self.exam_date_format).filter(|format| !format.is_empty());
        let exam_date = date.and_then(|format| errors.check("exam_date_format", DateFormat::parse(format)));
        if self.form == BodyForm::Current {
            let older =
                [("older_score_member", &self.older_score_member), ("exam_date_format", &self.exam_date_format)];
            for (key, _) in older.into_iter().filter(|(_, text)| !text.is_empty()) {
                errors.push(key, "has no effect with form = \"current\": remove it");
            }
        }
        if self.mode == WebhookMode::Off {
            return errors.finish(Some(None));
        }
        if self.path_token.is_none() {
            errors.push("path_token", "is missing: it is the secret part of the address that the vendor is given");
        }
        let Self { form, match_by, second_result, completes, older_score_member, on_refusal, owner, .. } = self;
        let only_open = match_by.contains(&MatchStep::OnlyOpen);
        let reader = ReaderSettings { form, test_from: match_by, completes, older_score_member, exam_date };
        let received = token.map(|path_token| {
            Some(ReceiverSettings { keys, path_token, reader, only_open, second_result, on_refusal, owner })
        });
        errors.finish(received)
    }
}

impl ReceiverSettings {
    /// Returns every secret.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.keys.iter().chain([&self.path_token])
    }

    /// Returns how the readings of a series are folded. The vendor cannot be asked about an attempt, so no step back is ever
    /// confirmed.
    #[must_use]
    pub fn fold(&self, scoring: ScoringRules) -> FoldSettings {
        FoldSettings {
            attempts: AttemptRule::ByReport(self.second_result),
            unscored: Unscored::Pending,
            regression: Regression::Ignore,
            auto_closed_ends: false,
            scoring,
        }
    }
}

fn checked_token(token: Secret) -> Result<Secret, String> {
    let text = token.expose();
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if text.len() >= MIN_TOKEN && text.bytes().all(unreserved) {
        return Ok(token);
    }
    Err(format!("must have at least {MIN_TOKEN} letters, digits and characters of \"-._~\""))
}

fn checked_steps(steps: &[MatchStep]) -> Result<(), &'static str> {
    let repeated = steps.iter().enumerate().any(|(index, step)| steps[..index].contains(step));
    if steps.is_empty() {
        return Err("must name at least one of \"path\", \"test_id\", \"only_open\"");
    }
    if repeated {
        return Err("names a way twice");
    }
    if steps.iter().rev().skip(1).any(|step| *step == MatchStep::OnlyOpen) {
        return Err("must name \"only_open\" last: it guesses the test that the others name");
    }
    Ok(())
}
