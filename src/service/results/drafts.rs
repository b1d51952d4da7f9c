//! What has come: repeats are counted, what cannot be read is recorded as such, and the rest is to be matched.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::domain::error::Error;
use crate::domain::ids::ReportId;
use crate::domain::results::{ReadReport, Report, ReportDigest, ReportKind, ReportState, digest_input};
use crate::service::Gateway;
use crate::service::connections::Connection;
use crate::service::errors::StoreResultExt as _;
use crate::service::results::chunk::{Arrival, Draft, IngestPlan, Kept, Move, TouchedReport};
use crate::service::results::directory::named_series;
use crate::store::{Mutation, NewReport, RepeatedReport};

impl Gateway {
    /// Counts repeats, records what cannot be read, and returns the other reports, and the repeats that move a time.
    pub(super) async fn draft_arrivals(
        &self,
        connection: &Connection,
        arrivals: Vec<Arrival>,
        plan: &mut IngestPlan,
    ) -> Result<(Vec<Draft>, Vec<Move>), Error> {
        let store = &self.0.store;
        let mut counts: HashMap<ReportDigest, u64> = HashMap::new();
        let mut first: Vec<(ReportDigest, Arrival)> = Vec::with_capacity(arrivals.len());
        for arrival in arrivals {
            plan.changes.extend(arrival.inbox.map(Mutation::RemoveReceived));
            let digest = store.report_digest(&digest_input(&connection.name, arrival.kind, &arrival.read.canonical));
            let count = counts.entry(digest).or_default();
            *count += 1;
            if *count == 1 {
                first.push((digest, arrival));
            }
        }
        let digests: Vec<ReportDigest> = first.iter().map(|(digest, _)| *digest).collect();
        let known = if digests.is_empty() {
            Vec::new()
        } else {
            store.reports_by_digest(&connection.name, &digests).await.or_not_applied()?
        };
        let known: HashMap<ReportDigest, Report> = known.into_iter().map(|report| (report.digest, report)).collect();
        let (mut drafts, mut moves) = (Vec::with_capacity(first.len()), Vec::new());
        for (digest, arrival) in first {
            let Arrival { read, kind, context, as_of, received, inbox: _ } = arrival;
            let ReadReport { body, canonical: _, reading } = read;
            let again = counts.get(&digest).copied().unwrap_or(1);
            // A webhook that comes again may be an old request.
            let moves_to = (kind != ReportKind::Webhook).then_some(as_of);
            let repeat = |id: ReportId, count: u64| {
                let connection = connection.name.clone();
                RepeatedReport { connection, digest, as_of: moves_to, count, id }
            };
            let series = reading.as_ref().ok().and_then(|reading| named_series(&reading.series)).cloned();
            if let Some(report) = known.get(&digest) {
                plan.changes.push(Mutation::RepeatReport(repeat(report.id.clone(), again)));
                plan.touched.push(TouchedReport { id: report.id.clone(), digest, series: series.clone() });
                if let (Some(series), Some(as_of), ReportState::Applied) = (series, moves_to, report.state) {
                    moves.push(Move { series, digest, as_of });
                }
                continue;
            }
            let id = ReportId::generate(&self.0.system);
            plan.touched.push(TouchedReport { id: id.clone(), digest, series });
            let report = Report {
                id: id.clone(),
                tenant: connection.reports_owner().map(str::to_owned),
                connection: connection.name.clone(),
                kind,
                state: ReportState::Parked,
                parked_for: None,
                rejection: None,
                received,
                as_of,
                digest,
                repeats: 0,
                context,
                by_hand: false,
                candidate: None,
                assignment: None,
                result: None,
            };
            match reading {
                Ok(reading) => drafts.push(Draft { report, reading, kept: Kept::New(body), said: None }),
                Err(rejection) => {
                    let report = Report { state: ReportState::Rejected, rejection: Some(rejection), ..report };
                    let event = self.emitter().report_event(&report);
                    let report = NewReport { report, body: Some(body), reading: None, series: None };
                    plan.changes.push(Mutation::Report(Box::new(report)));
                    plan.changes.extend(event.map(|event| Mutation::Event(Box::new(event))));
                }
            }
            if again > 1 {
                // Counted when the report itself is recorded.
                plan.repeats_of_new.push(repeat(id, again - 1));
            }
        }
        Ok((drafts, moves))
    }
}

/// Builds the mutations that move the times of recorded reports, and returns the series that they move.
pub(super) fn move_touched(
    connection: &Connection,
    touched: Option<(Timestamp, Vec<TouchedReport>)>,
    changes: &mut Vec<Mutation>,
) -> Vec<Move> {
    let Some((as_of, touched)) = touched else { return Vec::new() };
    let mut moves = Vec::with_capacity(touched.len());
    for TouchedReport { id, digest, series } in touched {
        let connection = connection.name.clone();
        let repeat = RepeatedReport { connection, digest, as_of: Some(as_of), count: 0, id };
        changes.push(Mutation::RepeatReport(repeat));
        moves.extend(series.map(|series| Move { series, digest, as_of }));
    }
    moves
}
