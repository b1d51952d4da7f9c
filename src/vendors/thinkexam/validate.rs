//! Validates the settings. Reports every error, not only the first, and never quotes a value: it may be a secret in the
//! wrong place.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, Method};
use url::Url;

use crate::domain::units::ConfigDuration;
use crate::secret::{Redactor, Secret, SecretRef};
use crate::vendors::thinkexam::results::ReceiverSettings;
use crate::vendors::thinkexam::settings::{Mode, PasswordEncoding, Settings, SignatureSettings, TimeStamp};
use crate::vendors::thinkexam::sign::{Formula, MacSettings, SignatureHeaders};
use crate::vendors::thinkexam::signature_provider::GeneratorRequest;
use crate::vendors::thinkexam::template::Template;
use crate::vendors::{AdapterContext, SettingError, SettingErrors};

/// Validated settings.
pub(super) struct Checked {
    pub(super) base_url: Url,
    pub(super) password_encoding: PasswordEncoding,
    pub(super) default_group: Option<String>,
    pub(super) link: Option<Template>,
    pub(super) signature: Signature,
    pub(super) redactor: Redactor,
    /// How results are received; `None` if they are not.
    pub(super) results: Option<ReceiverSettings>,
}

/// Validated signature source.
pub(super) enum Signature {
    Remote(GeneratorRequest),
    Formula(Formula),
    Fixed(SignatureHeaders),
}

/// Default body of a request to the signature service. The service is undocumented; this is our proposal.
const DEFAULT_BODY: &str = r#"{"apiKey":"{api_key}","secret":"{secret}"}"#;

/// Maximum of `signature.ttl`.
const MAX_TTL: Duration = Duration::from_hours(24);

/// Lists every key except `mode`: its name, whether it is given, and the modes in which it has an effect.
macro_rules! keys_by_mode {
    ($settings:expr; $($key:ident: $($mode:ident)|+;)*) => {{
        let SignatureSettings { mode: _, $($key),* } = $settings;
        [$((stringify!($key), $key.is_some(), &[$(Mode::$mode),+][..])),*]
    }};
}

impl Settings {
    /// Validates the settings and reads their secrets.
    ///
    /// # Errors
    /// Every invalid setting.
    pub(super) fn checked(self, setup: &AdapterContext<'_>) -> Result<Checked, Vec<SettingError>> {
        let Self { base_url, password_encoding, default_group, link_template, signature, results } = self;
        let mut check = Check { setup, errors: SettingErrors::default(), secrets: Vec::new() };
        let base_url = check.errors.check("base_url", setup.url("base_url", &base_url));
        let link = check.link(link_template);
        let signature = check.signature(signature);
        let results = check.errors.check_section("results", results.checked(setup));
        check.secrets.extend(results.iter().flatten().flat_map(ReceiverSettings::secrets).cloned());
        let redactor = Redactor::new(&check.secrets);
        let default_group = Some(default_group).filter(|group| !group.trim().is_empty());
        let checked = || {
            let (base_url, signature, results) = (base_url?, signature?, results?);
            Some(Checked { base_url, password_encoding, default_group, link, signature, redactor, results })
        };
        check.errors.finish(checked())
    }
}

struct Check<'a> {
    setup: &'a AdapterContext<'a>,
    errors: SettingErrors,
    secrets: Vec<Secret>,
}

impl Check<'_> {
    fn link(&mut self, text: String) -> Option<Template> {
        if text.is_empty() {
            return None;
        }
        let template = Template::new(text);
        self.errors.check("link_template", template.only_names(&["token", "email"]))?;
        let sample = template.render(|_| Some("x".to_owned()));
        if !Url::parse(&sample).is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.has_host()) {
            self.errors.push("link_template", "is not an absolute http or https URL");
            return None;
        }
        Some(template)
    }

    fn secret(&mut self, key: &str, reference: Option<&SecretRef>) -> Option<Secret> {
        let reference = self.errors.check(key, reference.ok_or("is missing"))?;
        let secret = self.errors.check(key, reference.resolve(self.setup.secrets))?;
        self.secrets.push(secret.clone());
        Some(secret)
    }

    fn signature(&mut self, settings: SignatureSettings) -> Option<Signature> {
        self.check_unused_keys(&settings);
        match settings.mode {
            Mode::Remote => self.remote(settings).map(Signature::Remote),
            Mode::Hmac => self.formula(&settings).map(Signature::Formula),
            Mode::Static => self.fixed(&settings).map(Signature::Fixed),
        }
    }

    /// Reports keys that have no effect in this mode.
    fn check_unused_keys(&mut self, settings: &SignatureSettings) {
        let keys = keys_by_mode! { settings;
            api_key: Remote | Hmac;
            secret: Remote | Hmac;
            url: Remote;
            method: Remote;
            headers: Remote;
            body: Remote;
            ak_pointer: Remote;
            sgn_pointer: Remote;
            ts_pointer: Remote;
            ttl: Remote;
            algorithm: Hmac;
            message: Hmac;
            encoding: Hmac;
            key_encoding: Hmac;
            ts: Hmac | Static;
            ak: Static;
            sgn: Static;
        };
        for (key, given, modes) in keys {
            if given && !modes.contains(&settings.mode) {
                let detail = format!("has no effect with mode = \"{}\"", settings.mode.as_str());
                self.errors.push(&format!("signature.{key}"), detail);
            }
        }
    }

    fn remote(&mut self, settings: SignatureSettings) -> Option<GeneratorRequest> {
        let url = match &settings.url {
            Some(text) => self.errors.check("signature.url", self.setup.url("signature.url", text)),
            None => self.errors.check("signature.url", Err("is missing")),
        };
        let method = match settings.method.as_deref().unwrap_or("POST") {
            "GET" => Some(Method::GET),
            "POST" => Some(Method::POST),
            "PUT" => Some(Method::PUT),
            _ => self.errors.check("signature.method", Err("expected \"GET\", \"POST\" or \"PUT\"")),
        };
        let default_body = || (method != Some(Method::GET)).then(|| Template::new(DEFAULT_BODY));
        let body = settings.body.or_else(default_body).filter(|body| !body.is_empty());
        let headers = self.headers(settings.headers.unwrap_or_default());
        if let Some(body) = &body {
            self.names("signature.body", body);
            if serde_json::from_str::<serde_json::Value>(&body.render(|_| Some("0".to_owned()))).is_err() {
                self.errors.push("signature.body", "is not a JSON template");
            }
        }
        let uses = |name| headers.iter().map(|(_, value)| value).chain(&body).any(|template| template.uses(name));
        let (with_key, with_secret) = (uses("api_key"), uses("secret"));
        let api_key = self.needed("signature.api_key", settings.api_key.as_ref(), with_key);
        let secret = self.needed("signature.secret", settings.secret.as_ref(), with_secret);
        let ak_pointer = self.pointer("signature.ak_pointer", settings.ak_pointer, "/ak");
        let sgn_pointer = self.pointer("signature.sgn_pointer", settings.sgn_pointer, "/sgn");
        let ts_pointer = self.pointer("signature.ts_pointer", settings.ts_pointer, "/ts");
        let ttl = settings.ttl.map_or(Duration::from_mins(1), |ttl| ttl.0);
        if ttl > MAX_TTL {
            self.errors.push("signature.ttl", format!("must be at most {}", ConfigDuration(MAX_TTL)));
        }
        Some(GeneratorRequest {
            url: url?,
            method: method?,
            headers,
            body,
            api_key,
            secret,
            ak_pointer,
            sgn_pointer,
            ts_pointer,
            ttl,
        })
    }

    fn headers(&mut self, headers: BTreeMap<String, Template>) -> Vec<(HeaderName, Template)> {
        let mut checked = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            let key = format!("signature.headers.{name}");
            self.names(&key, &value);
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => checked.push((name, value)),
                Err(_) => self.errors.push(&key, "is not a header name"),
            }
        }
        checked
    }

    fn names(&mut self, key: &str, template: &Template) {
        self.errors.check(key, template.only_names(&["api_key", "secret", "now"]));
    }

    /// Resolves a secret that is optional unless a template uses it.
    fn needed(&mut self, key: &str, reference: Option<&SecretRef>, needed: bool) -> Option<Secret> {
        if reference.is_none() && !needed { None } else { self.secret(key, reference) }
    }

    fn pointer(&mut self, key: &str, pointer: Option<String>, default: &str) -> String {
        let pointer = pointer.unwrap_or_else(|| default.to_owned());
        if !pointer.starts_with('/') {
            self.errors.push(key, "is not a JSON pointer such as \"/data/sgn\"");
        }
        pointer
    }

    fn formula(&mut self, settings: &SignatureSettings) -> Option<Formula> {
        let api_key = self.secret("signature.api_key", settings.api_key.as_ref());
        let secret = self.secret("signature.secret", settings.secret.as_ref());
        let message = settings.message.clone().unwrap_or_else(|| Template::new("{api_key}{ts}"));
        self.errors.check("signature.message", message.only_names(&["api_key", "secret", "ts"]));
        let milliseconds = match settings.ts.as_ref().map_or("seconds", TimeStamp::as_str) {
            "seconds" => Some(false),
            "milliseconds" => Some(true),
            _ => self.errors.check("signature.ts", Err("expected \"seconds\" or \"milliseconds\"")),
        };
        let secret = secret?;
        let key = self
            .errors
            .check("signature.secret", settings.key_encoding.unwrap_or_default().decode(&secret, "key_encoding"));
        let mac = MacSettings {
            algorithm: settings.algorithm.unwrap_or_default(),
            encoding: settings.encoding.unwrap_or_default(),
            milliseconds: milliseconds?,
        };
        let formula = Formula::new(api_key?, secret, key?, message, mac);
        self.errors.check("signature.api_key", formula)
    }

    fn fixed(&mut self, settings: &SignatureSettings) -> Option<SignatureHeaders> {
        let ak = self.secret("signature.ak", settings.ak.as_ref());
        let sgn = self.secret("signature.sgn", settings.sgn.as_ref());
        let ts = match settings.ts.as_ref().map(|ts| SecretRef::parse(ts.as_str())).transpose() {
            Ok(reference) => self.secret("signature.ts", reference.as_ref()),
            Err(detail) => self.errors.check("signature.ts", Err(detail)),
        };
        SignatureHeaders::new(ak?, sgn?, ts?)
            .map_err(|name| self.errors.push(&format!("signature.{name}"), "cannot be sent as a header"))
            .ok()
    }
}
