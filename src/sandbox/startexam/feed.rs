//! `GET /v2/sessions`: the sessions modified since a time, in pages, with a token to continue.
//!
//! The vendor publishes the parameters, the page size and the end marks, that a token is valid once and for the same
//! filters, and that a time ahead of its clock is refused. What becomes of a token that is used otherwise, and whether a
//! session can appear in the feed after the feed was read to its time, is not published: switches have each reading.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    time::{Duration, SystemTime},
};

use super::sessions::{Position, Session, date_time, parse_date_time, unix_seconds};
use super::{Refusal, StartExam, account};
use crate::sandbox::http_types::Call;
use crate::sandbox::ordered_json::Json;
use crate::sandbox::vendor::{Context, vendor_clock};

/// The published maximum page size.
const PAGE: usize = 500;
/// How many tokens are known at the same time; older ones are forgotten.
const MAX_TOKENS: usize = 10_000;
const DAY: i64 = 86_400;

/// The continuation tokens and the pages they stand for.
#[derive(Default)]
pub(super) struct Tokens {
    known: HashMap<String, Token>,
    oldest_first: VecDeque<String>,
}

struct Token {
    page: Page,
    given: SystemTime,
    used: bool,
    /// The token on its page.
    next: Option<String>,
}

/// What one page shows: a part of the sessions modified from `since` to `until`.
#[derive(Clone, Copy)]
struct Page {
    since: i64,
    until: i64,
    /// The last session of the page before.
    after: Option<Position>,
}

impl Tokens {
    fn insert(&mut self, name: String, page: Page, given: SystemTime) {
        self.known.insert(name.clone(), Token { page, given, used: false, next: None });
        self.oldest_first.push_back(name);
        if self.oldest_first.len() > MAX_TOKENS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl StartExam {
    /// Handles `GET /v2/sessions`.
    pub(super) fn session_feed(&mut self, call: &Call, context: &Context<'_>) -> Result<Json, Refusal> {
        let query: BTreeMap<_, _> =
            call.query_pairs().into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let center = query.get("center").ok_or_else(|| Refusal::bad("'center' is required"))?;
        if center != account::CENTER {
            return Err(Refusal::unknown(context, "Center", center));
        }
        let since = query.get("modifiedsince").ok_or_else(|| Refusal::bad("'modifiedSince' is required"))?;
        let since = parse_date_time(since)
            .ok_or_else(|| Refusal::bad("'modifiedSince' must be a UTC date-time such as 2024-05-03T00:00:00Z"))?;
        let now = unix_seconds(vendor_clock(context.now, context.switches));
        if since > now {
            return Err(Refusal::bad("'modifiedSince' is in the future"));
        }
        match query.get("continuationtoken") {
            None => {
                let page = Page { since, until: self.modified_until(now, context), after: None };
                Ok(self.feed_page(page, None, context))
            }
            Some(token) => self.continued(token, since, context),
        }
    }

    /// Returns the page of a token; what becomes of a used one is a switch, since the vendor only warns of loops.
    fn continued(&mut self, token: &str, since: i64, context: &Context<'_>) -> Result<Json, Refusal> {
        let refused = |why: &str| Err(Refusal::bad(format!("'continuationToken' {why}")));
        let Some(known) = self.tokens.known.get_mut(token) else {
            return refused("is unknown");
        };
        if known.page.since != since {
            return refused("was given for other filters");
        }
        let limit = context.switches.number("token_ttl_seconds").and_then(|seconds| u64::try_from(seconds).ok());
        let age = context.now.duration_since(known.given).unwrap_or_default();
        if limit.is_some_and(|limit| age > Duration::from_secs(limit)) {
            return refused("has expired");
        }
        let (page, next, was_used) = (known.page, known.next.clone(), known.used);
        known.used = true;
        let answer = context.switches.text(if was_used { "used_token" } else { "fresh_token" });
        match answer.as_str() {
            "refused" => refused(if was_used { "was used before" } else { "is not valid" }),
            "loop" => Ok(self.feed_page(page, Some(token.to_owned()), context)),
            _ => {
                let mut shown = self.feed_page(page, next, context);
                let issued = shown.member_mut("continuationToken").cloned();
                if let (Some(Json::Text(issued)), Some(known)) = (issued, self.tokens.known.get_mut(token)) {
                    known.next = Some(issued);
                }
                Ok(shown)
            }
        }
    }

    /// Builds a page that ends with this token; without one, with a new one if there are more pages.
    fn feed_page(&mut self, page: Page, token: Option<String>, context: &Context<'_>) -> Json {
        let switches = context.switches;
        let size = switches.size("session_page_size").clamp(1, PAGE);
        let after = page.after.map_or(Bound::Included((page.since, 0)), Bound::Excluded);
        let (found, has_more) = self.sessions.page((after, page.until), size, is_visible(context));
        let last = found.last().map(|(position, _)| *position);
        let reports = found.iter().map(|(_, session)| self.report(session, context)).collect();
        let mut members = vec![(switches.text("session_list_name"), Json::List(reports))];
        if switches.flag("second_list") {
            members.insert(0, ("messages".to_owned(), Json::List(Vec::new())));
        }
        let is_endless = context.struck_by("endless_feed");
        if has_more || is_endless || token.is_some() {
            let token = token.unwrap_or_else(|| {
                let token = self.ids.continuation();
                // An endless feed repeats its last page.
                let after = if has_more { last } else { page.after };
                self.tokens.insert(token.clone(), Page { after, ..page }, context.now);
                token
            });
            members.push(("continuationToken".to_owned(), token.into()));
        } else {
            let until = match switches.text("modified_until").as_str() {
                "absent" => None,
                "backwards" => Some(page.since - DAY),
                _ => Some(page.until),
            };
            members.extend(until.map(|until| ("modifiedUntil".to_owned(), date_time(until).into())));
        }
        Json::Object(members)
    }

    /// Returns until when the feed claims to be complete. It is only if the switch says so: by default a session that
    /// appears late was modified before.
    fn modified_until(&self, now: i64, context: &Context<'_>) -> i64 {
        if !context.switches.is("modified_until", "complete") {
            return now;
        }
        let since = now - lag(context);
        self.sessions.earliest_hidden(since, is_visible(context)).map_or(now, |hidden| hidden.min(now))
    }
}

fn lag(context: &Context<'_>) -> i64 {
    context.switches.number("feed_lag_seconds").unwrap_or(0)
}

/// Returns whether the feed has a session yet.
fn is_visible(context: &Context<'_>) -> impl Fn(&Session) -> bool + use<> {
    let now = unix_seconds(vendor_clock(context.now, context.switches));
    let usual = lag(context);
    move |session| session.modified.saturating_add(session.lag.unwrap_or(usual)) <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_tokens_are_forgotten() {
        let mut tokens = Tokens::default();
        let page = Page { since: 0, until: 0, after: None };
        for number in 0..=MAX_TOKENS {
            tokens.insert(number.to_string(), page, SystemTime::UNIX_EPOCH);
        }
        assert_eq!((tokens.known.len(), tokens.oldest_first.len()), (MAX_TOKENS, MAX_TOKENS));
        assert!(!tokens.known.contains_key("0") && tokens.known.contains_key("1"));
    }
}
