//! What the end of an attempt makes of its delivery and of its webhook: pure functions.
//!
//! A receiver that is not there, times out, or asks for patience (429, 503) holds back the whole webhook, which is then probed
//! by one attempt per step of the schedule. Any other refusal concerns the event alone. So a dead host costs no event a step.
//!
//! An event at which the receiver ends so again and again, while it accepts others in between, fails by itself: it takes a step
//! of the schedule like one that is refused. Otherwise such an event would never end, and hold the others back for ever. So does
//! an event at which the gateway itself fails.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::webhook::schedule::{RetrySchedule, parse_retry_after};
use crate::domain::webhook::{Delivery, DeliveryAttempt, DeliveryState, DisableReason, Webhook, WebhookState};
use crate::transport::delivery::{DeliveryError, DeliveryResponse};

/// Number of failed attempts in a row after which a webhook is failing.
const FAILING_AFTER: u32 = 3;
/// Maximum number of attempts of a delivery that are kept; older ones are dropped.
const MAX_ATTEMPTS: usize = 50;
/// Longest pause after an attempt, whatever schedule and receiver say.
const MAX_PAUSE: Duration = Duration::from_hours(7 * 24 + 24);

/// What an attempt's end means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The receiver has accepted the event.
    Accepted,
    /// The receiver wants no more events.
    Gone,
    /// The receiver is not there or asks for patience; no event is sent until it is probed.
    HostAway(Option<Duration>),
    /// The receiver has refused this event.
    Refused(Option<Duration>),
    /// The attempt has ended by a fault of the gateway, which says nothing of the receiver.
    Unknown,
}

/// An attempt that has ended.
#[derive(Debug, Clone)]
pub(super) struct EndedAttempt {
    /// The number of the delivery's event.
    pub(super) sequence: u64,
    /// When it began and ended, by the gateway's steady time.
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    /// The attempt as it is shown.
    pub(super) attempt: DeliveryAttempt,
    pub(super) verdict: Verdict,
}

/// The rules by which attempts end.
pub(super) struct Rules<'a> {
    pub(super) schedule: &'a RetrySchedule,
    pub(super) disable_after: Duration,
    /// A random number for the jitter.
    pub(super) random: u64,
}

/// How far the back-off of a webhook has come. Only the time until which nothing is sent is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BackOff {
    /// The step of the schedule that was waited for last.
    pub(super) step: u32,
    /// When it began. Attempts that were under way then are no further probes.
    pub(super) since: Option<Timestamp>,
    /// When the attempt began that was accepted last, by the clock of attempts. It outlives the back-off.
    pub(super) accepted: Option<Timestamp>,
}

impl BackOff {
    /// Ends the back-off.
    pub(super) fn end(&mut self) {
        (self.step, self.since) = (0, None);
    }

    /// Returns whether an attempt is a probe of the present back-off, or there is none: not one that was under way when it began.
    fn is_probed_by(&self, end: &EndedAttempt) -> bool {
        self.since.is_none_or(|since| end.began >= since)
    }
}

/// What is reported of a webhook to its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is failing.
    Failing,
    /// It is disabled.
    Disabled(DisableReason),
}

/// Judges a response, or the lack of one.
pub(super) fn judge(result: &Result<DeliveryResponse, DeliveryError>, now: Timestamp) -> Verdict {
    let Ok(DeliveryResponse { status, retry_after }) = result else { return Verdict::HostAway(None) };
    let wait = retry_after.as_deref().and_then(|value| parse_retry_after(value, now));
    match status {
        200..=299 => Verdict::Accepted,
        410 => Verdict::Gone,
        429 | 503 => Verdict::HostAway(wait),
        _ => Verdict::Refused(wait),
    }
}

/// Returns the sentence about a failed attempt; `None` for a success.
pub(super) fn failure_text(result: &Result<DeliveryResponse, DeliveryError>) -> Option<String> {
    match result {
        Ok(DeliveryResponse { status: 200..=299, .. }) => None,
        Ok(DeliveryResponse { status: status @ 300..=399, .. }) => {
            Some(format!("The receiver responded with status {status}; redirects are not followed."))
        }
        Ok(DeliveryResponse { status, .. }) => Some(format!("The receiver responded with status {status}.")),
        Err(error) => Some(error.to_string()),
    }
}

/// Records the end of an attempt in its delivery and in its webhook. Returns what is reported to the tenant.
pub(super) fn conclude(
    end: &EndedAttempt,
    delivery: &mut Delivery,
    webhook: &mut Webhook,
    back_off: &mut BackOff,
    rules: &Rules<'_>,
) -> Option<Turn> {
    let fails_alone = is_alone(delivery, back_off);
    // Retention, or an exclusion, may have ended it while it was in flight: then only an acceptance changes that.
    let ended = (delivery.state != DeliveryState::Pending).then_some((delivery.state, delivery.step));
    delivery.attempts.push(end.attempt.clone());
    let excess = delivery.attempts.len().saturating_sub(MAX_ATTEMPTS);
    delivery.attempts.drain(..excess);
    match end.verdict {
        Verdict::Accepted => {
            delivery.state = DeliveryState::Delivered;
            delivery.reason = None;
            delivery.due = None;
            back_off.accepted = back_off.accepted.max(Some(end.attempt.at));
            if back_off.is_probed_by(end) {
                recover(webhook, back_off);
            }
            webhook.failures = 0;
            webhook.failing_since = None;
            if webhook.state == WebhookState::Failing {
                webhook.state = WebhookState::Enabled;
            }
            return None;
        }
        Verdict::Gone => {
            // The event keeps its place.
            delivery.due = Some(end.ended);
            stay_ended(delivery, ended);
            fail(webhook, end);
            return disable(webhook, DisableReason::Gone);
        }
        Verdict::HostAway(wait) => {
            fail(webhook, end);
            if fails_alone {
                take_step(delivery, end, wait, rules);
            } else {
                delivery.due = Some(end.ended);
            }
            if back_off.is_probed_by(end) {
                back_off.step = back_off.step.saturating_add(1);
                back_off.since = Some(end.ended);
                let pause = rules.schedule.pause_or_last(back_off.step, rules.random);
                webhook.resume_at = Some(after(end.ended, pause.max(wait.unwrap_or_default())));
            } else if let Some(wait) = wait {
                webhook.resume_at = webhook.resume_at.max(Some(after(end.ended, wait)));
            }
        }
        Verdict::Refused(wait) => {
            fail(webhook, end);
            // It responds: whatever it thinks of this event, it is there.
            if back_off.is_probed_by(end) {
                recover(webhook, back_off);
            }
            take_step(delivery, end, wait, rules);
        }
        Verdict::Unknown => {
            take_step(delivery, end, None, rules);
            stay_ended(delivery, ended);
            return None;
        }
    }
    stay_ended(delivery, ended);
    turn_after_failure(webhook, end.ended, rules.disable_after)
}

/// Leaves a delivery as it was if it had ended before its attempt did.
fn stay_ended(delivery: &mut Delivery, ended: Option<(DeliveryState, u32)>) {
    if let Some((state, step)) = ended {
        (delivery.state, delivery.step, delivery.due) = (state, step, None);
    }
}

/// Returns whether the receiver has accepted another event since it was not there for this one.
fn is_alone(delivery: &Delivery, back_off: &BackOff) -> bool {
    let before = delivery.attempts.last().filter(|attempt| matches!(attempt.status, None | Some(429 | 503)));
    before.zip(back_off.accepted).is_some_and(|(before, accepted)| {
        let took = SignedDuration::from_millis(i64::try_from(before.duration_ms).unwrap_or(i64::MAX));
        before.at.saturating_add(took).is_ok_and(|ended| accepted >= ended)
    })
}

/// Has a delivery wait for the next step of the schedule; after the last one, it has failed.
fn take_step(delivery: &mut Delivery, end: &EndedAttempt, wait: Option<Duration>, rules: &Rules<'_>) {
    delivery.step = delivery.step.saturating_add(1);
    let pause = rules.schedule.pause(delivery.step, rules.random);
    delivery.due = pause.map(|pause| after(end.ended, pause.max(wait.unwrap_or_default())));
    if delivery.due.is_none() {
        delivery.state = DeliveryState::Failed;
    }
}

fn recover(webhook: &mut Webhook, back_off: &mut BackOff) {
    back_off.end();
    webhook.resume_at = None;
}

fn fail(webhook: &mut Webhook, end: &EndedAttempt) {
    webhook.failures = webhook.failures.saturating_add(1);
    webhook.failing_since = webhook.failing_since.or(Some(end.began));
}

fn turn_after_failure(webhook: &mut Webhook, now: Timestamp, disable_after: Duration) -> Option<Turn> {
    if !matches!(webhook.state, WebhookState::Enabled | WebhookState::Failing) {
        return None;
    }
    let limit = SignedDuration::try_from(disable_after).unwrap_or(SignedDuration::MAX);
    if webhook.failing_since.is_some_and(|since| now.duration_since(since) >= limit) {
        return disable(webhook, DisableReason::Failing);
    }
    if webhook.state == WebhookState::Enabled && webhook.failures >= FAILING_AFTER {
        webhook.state = WebhookState::Failing;
        return Some(Turn::Failing);
    }
    None
}

fn disable(webhook: &mut Webhook, reason: DisableReason) -> Option<Turn> {
    if webhook.state == WebhookState::Disabled {
        return None;
    }
    webhook.state = WebhookState::Disabled;
    webhook.reason = Some(reason);
    webhook.resume_at = None;
    Some(Turn::Disabled(reason))
}

fn after(time: Timestamp, pause: Duration) -> Timestamp {
    let pause = SignedDuration::try_from(pause.min(MAX_PAUSE)).unwrap_or(SignedDuration::ZERO);
    time.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
