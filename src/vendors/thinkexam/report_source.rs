//! The vendor's webhooks as a source of reports. The vendor cannot be asked for one.

use async_trait::async_trait;
use jiff::Timestamp;

use super::results::{OnRefusal, ReceiverSettings, read_webhook};
use crate::domain::error::Code;
use crate::domain::results::{
    ChangesPage, ChangesQuery, FetchedReport, FoldSettings, ReadReport, ReceiverPlan, ReportChannel, ReportContext,
    ReportKind, ReportSource, ScoringRules,
};
use crate::domain::vendor::CallContext;
use crate::domain::vendor_error::VendorError;

/// The headers that may carry the key: the spelling of the current article, that of the older page, and the one that a
/// proxy which drops underscores may be taught to send.
const KEY_HEADERS: &[&str] = &["X-webhook_key", "webhook_key", "X-Webhook-Key"];

/// The webhooks of one account.
pub(super) struct WebhookSource {
    settings: ReceiverSettings,
    channel: ReportChannel,
}

impl WebhookSource {
    pub(super) fn new(settings: ReceiverSettings) -> Self {
        let channel = ReportChannel::Receiver(ReceiverPlan {
            path_token: settings.path_token.clone(),
            keys: settings.keys.clone(),
            key_headers: KEY_HEADERS,
            on_refusal: match settings.on_refusal {
                OnRefusal::Unauthorized => 401,
                OnRefusal::Ok => 200,
            },
            only_open: settings.only_open,
        });
        Self { settings, channel }
    }
}

#[async_trait]
impl ReportSource for WebhookSource {
    fn channel(&self) -> &ReportChannel {
        &self.channel
    }

    fn owner(&self) -> Option<&str> {
        Some(self.settings.owner.as_str()).filter(|owner| !owner.is_empty())
    }

    fn fold_settings(&self, scoring: ScoringRules) -> FoldSettings {
        self.settings.fold(scoring)
    }

    fn read_report(&self, _kind: ReportKind, body: &[u8], context: &ReportContext) -> ReadReport {
        read_webhook(body, context.assessment.as_deref(), &self.settings.reader)
    }

    async fn read_changes(&self, _query: &ChangesQuery, _call: &CallContext) -> Result<ChangesPage, VendorError> {
        Err(unsupported())
    }

    async fn fetch_report(
        &self,
        _participant: &str,
        _center: Option<&str>,
        _call: &CallContext,
    ) -> Result<FetchedReport, VendorError> {
        Err(unsupported())
    }

    fn launch_url(&self, _participant: &str, _center: Option<&str>) -> Option<String> {
        None
    }

    async fn vendor_time(&self, _call: &CallContext) -> Result<Timestamp, VendorError> {
        Err(unsupported())
    }
}

fn unsupported() -> VendorError {
    let detail = "ThinkExam sends results by webhook; it documents no way to ask for them.";
    VendorError::new(Code::CapabilityUnsupported, detail)
}
