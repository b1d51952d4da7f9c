//! Settings of an `ExamTesting` connection and their validation.
//!
//! It must never show a secret: errors name the key, not its value.

use regex::Regex;
use serde::Deserialize;
use url::Url;

use super::plan::PlanSettings;
use super::sign::Credentials;
use super::wire::{self, ParamsIn};
use crate::secret::SecretRef;
use crate::vendors::examtesting::response_parser::Format;
use crate::vendors::{AdapterContext, SettingError, SettingErrors};

/// The keys of an `ExamTesting` connection.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// Base URL of the API. The vendor's page shows plain `http`; whether `https` works everywhere is undocumented.
    #[serde(default = "default_base_url")]
    pub base_url: String,
    /// `Institutionid`.
    pub institution_id: String,
    /// `Apikey`.
    pub api_key: SecretRef,
    /// `ApiPass`.
    pub api_pass: SecretRef,
    /// Location of the parameters; `action` is always in the query.
    #[serde(default)]
    pub params_in: ParamsIn,
    /// Format of the responses. The vendor documents the fields but not the format; set it once a pilot has shown it.
    #[serde(default)]
    pub response_format: ResponseFormat,
    /// With `response_format = "regex"`: an expression with the named groups `status`, `id`, `code`, `msg`.
    #[serde(default)]
    pub response_regex: String,
    /// Whether `externalId` is sent as `stusID`. Whose id that is on `add` is undocumented; we assume the caller's.
    #[serde(default = "yes")]
    pub send_student_id: bool,
    /// Group for candidates without one.
    #[serde(default)]
    pub default_group: String,
    /// Whether `action=update` may be used. The vendor names that action and documents nothing else about it.
    #[serde(default)]
    pub update_enabled: bool,
}

/// Expected format of responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any format whose meaning is unambiguous.
    #[default]
    Auto,
    /// `SUCCESS|12345`, `ERROR|1007|…`; a comma also separates.
    Pipe,
    /// `Status=SUCCESS&StudentId=12345`, `Status: SUCCESS, StudentId: 12345`.
    Kv,
    /// A JSON object.
    Json,
    /// An XML document.
    Xml,
    /// The expression in `response_regex`.
    Regex,
}

/// Validated settings.
pub(super) struct Checked {
    pub(super) base_url: Url,
    pub(super) credentials: Credentials,
    pub(super) params_in: ParamsIn,
    pub(super) format: Format,
    pub(super) rules: PlanSettings,
    pub(super) update_enabled: bool,
}

const GROUPS: [&str; 4] = ["status", "id", "code", "msg"];

impl Settings {
    /// The keys without a default.
    pub(in crate::vendors) const REQUIRED: &[&str] = &["institution_id", "api_key", "api_pass"];

    /// Validates the settings.
    ///
    /// # Errors
    /// Every invalid setting.
    pub(super) fn checked(self, context: &AdapterContext<'_>) -> Result<Checked, Vec<SettingError>> {
        let Self {
            base_url,
            institution_id,
            api_key,
            api_pass,
            params_in,
            response_format,
            response_regex,
            send_student_id,
            default_group,
            update_enabled,
        } = self;
        let mut errors = SettingErrors::default();
        let base_url = errors.check("base_url", address(&base_url, context));
        let institution_id = errors.check("institution_id", line(institution_id, true));
        let api_key = errors.check("api_key", api_key.resolve(context.secrets));
        let api_pass = errors.check("api_pass", api_pass.resolve(context.secrets));
        let format = errors.check("response_regex", format(response_format, &response_regex));
        let default_group = errors.check("default_group", line(default_group, false));
        let checked = || {
            let default_group = default_group.map(|group| Some(group).filter(|group| !group.is_empty()))?;
            Some(Checked {
                base_url: base_url?,
                credentials: Credentials { institution_id: institution_id?, api_key: api_key?, api_pass: api_pass? },
                params_in,
                format: format?,
                rules: PlanSettings { send_student_id, default_group },
                update_enabled,
            })
        };
        errors.finish(checked())
    }
}

fn default_base_url() -> String {
    "https://api.examtesting.com".to_owned()
}

const fn yes() -> bool {
    true
}

fn address(text: &str, context: &AdapterContext<'_>) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not an absolute URL: {error}"))?;
    context.connection.accepts(&url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain credentials; use api_key and api_pass".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or a fragment".to_owned());
    }
    Ok(url)
}

fn line(text: String, required: bool) -> Result<String, String> {
    if required && text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    match wire::refusal(&text) {
        Some(detail) if !text.is_empty() => Err(detail),
        _ => Ok(text),
    }
}

fn format(format: ResponseFormat, pattern: &str) -> Result<Format, String> {
    if format != ResponseFormat::Regex && !pattern.is_empty() {
        return Err("has no effect without response_format = \"regex\"".to_owned());
    }
    match format {
        ResponseFormat::Auto => Ok(Format::Auto),
        ResponseFormat::Pipe => Ok(Format::Pipe),
        ResponseFormat::Kv => Ok(Format::Kv),
        ResponseFormat::Json => Ok(Format::Json),
        ResponseFormat::Xml => Ok(Format::Xml),
        ResponseFormat::Regex => expression(pattern).map(Format::Regex),
    }
}

fn expression(pattern: &str) -> Result<Regex, String> {
    if pattern.is_empty() {
        return Err("is required with response_format = \"regex\"".to_owned());
    }
    let expression = Regex::new(pattern).map_err(|error| format!("is not a regular expression: {error}"))?;
    let names: Vec<&str> = expression.capture_names().flatten().collect();
    if let Some(stranger) = names.iter().find(|name| !GROUPS.contains(name)) {
        return Err(format!("has the unknown group `{stranger}`; valid groups are status, id, code and msg"));
    }
    if !names.contains(&"status") {
        return Err("needs the named group `status`".to_owned());
    }
    Ok(expression)
}
