//! Checks whether results can reach the gateway: reads a page of each feed, or says how webhooks are received.

use jiff::{SignedDuration, Timestamp};

use super::{Check, CheckResult, with_message};
use crate::domain::results::{
    ChangesPage, ChangesQuery, Continuation, FeedPlan, ReceiverPlan, ReportChannel, ReportSource,
};
use crate::domain::vendor::CallContext;
use crate::domain::vendor_error::VendorError;

/// How far back the page begins.
const PERIOD: SignedDuration = SignedDuration::from_hours(24);

/// Checks the source of results of this connection; `usable`: whether the vendor responds and accepts the credentials.
pub(super) async fn check(
    source: &dyn ReportSource,
    connection: &str,
    usable: bool,
    call: &CallContext,
) -> CheckResult {
    match source.channel() {
        ReportChannel::Receiver(plan) => receiver(plan, connection),
        ReportChannel::Feed(plan) if usable => feeds(source, plan, call).await,
        ReportChannel::Feed(_) => CheckResult::unchecked(Check::Results, "An earlier check failed."),
    }
}

async fn feeds(source: &dyn ReportSource, plan: &FeedPlan, call: &CallContext) -> CheckResult {
    let time = match source.vendor_time(call).await {
        Ok(time) => time,
        Err(error) => return fault("The vendor's time", &error),
    };
    // Not from the connection's `since`: months of results would not make the check better.
    let since = time.checked_sub(PERIOD).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut found = Vec::with_capacity(plan.centers.len());
    for center in &plan.centers {
        let name = center.as_ref().map_or_else(|| "The feed".to_owned(), |center| format!("The feed of {center:?}"));
        let query = ChangesQuery { since, center: center.clone(), token: None };
        let page = match source.read_changes(&query, call).await {
            Ok(page) => page,
            Err(error) => return fault(&name, &error),
        };
        match describe(&page) {
            Ok(description) => found.push(format!("{name} has {description}.")),
            Err(detail) => {
                let advice = "The vendor does not document entries of this form: ask it, and report it to examgate.";
                return CheckResult::error(Check::Results, format!("{name}: {detail}"), advice);
            }
        }
    }
    CheckResult::ok(Check::Results, found.join(" "))
}

fn fault(what: &str, error: &VendorError) -> CheckResult {
    let detail = format!("{what} cannot be read: {}", with_message(error));
    CheckResult::error(Check::Results, detail, error.code.action())
}

/// Describes a page by numbers alone: its entries are personal data.
///
/// # Errors
/// No entry can be read.
fn describe(ChangesPage { items, next }: &ChangesPage) -> Result<String, String> {
    let count = items.len();
    let rejections: Vec<_> = items.iter().filter_map(|item| item.reading.as_ref().err()).collect();
    let reason = rejections.first().map(ToString::to_string);
    let unread = match (rejections.len(), reason) {
        (0, _) | (_, None) => String::new(),
        (failed, Some(reason)) if failed == count => {
            return Err(format!("none of its {count} entries of the last day can be read: {reason}."));
        }
        (failed, Some(reason)) => format!(", of which {failed} cannot be read ({reason})"),
    };
    let end = match next {
        Continuation::Token(_) => "on the first page of the last day, and more pages".to_owned(),
        Continuation::Until(until) => format!("of the last day, and is complete until {until}"),
    };
    Ok(format!("{count} entries {end}{unread}"))
}

/// Describes the receiver without its secrets. Only the vendor can tell whether its webhooks arrive.
fn receiver(plan: &ReceiverPlan, connection: &str) -> CheckResult {
    let address = format!(
        "Webhooks are received at /receivers/{connection}/TOKEN and /receivers/{connection}/TOKEN/ASSESSMENT; `examgate \
         receivers` prints the whole addresses."
    );
    let (detail, advice) = match plan.keys.len() {
        0 => {
            let advice = "Set results.keys to the key that the vendor shows: without one, only the address is secret.";
            (format!("{address} No key is asked for."), advice.to_owned())
        }
        count => {
            let keys = if count == 1 { "The key".to_owned() } else { format!("One of {count} keys") };
            let headers = plan.key_headers.join(", ");
            let advice = "Some of these headers have an underscore, and a proxy may drop those: nginx does, unless \
                          underscores_in_headers is on.";
            (format!("{address} {keys} is expected in one of the headers {headers}."), advice.to_owned())
        }
    };
    CheckResult { advice: Some(advice), ..CheckResult::ok(Check::Results, detail) }
}

#[cfg(test)]
mod tests;
