//! The vendor call that a batch of writes takes.

use crate::domain::intent::Write;
use crate::domain::transition::VendorReply;
use crate::domain::vendor::{Booked, CallContext, Registered, RowResult};
use crate::service::connections::Connection;

/// Makes the call for writes of one kind and returns one result each, in order. Only registrations and bookings share a
/// call.
pub(super) async fn call_vendor(
    connection: &Connection,
    writes: &[Write],
    call: &CallContext,
) -> Vec<RowResult<VendorReply>> {
    let vendor = connection.vendor();
    match writes {
        [Write::Update(update)] => {
            vec![vendor.update(update, call).await.map(|applied| applied.map(VendorReply::Registered))]
        }
        [Write::Hide(candidate)] => {
            vec![vendor.hide(candidate, call).await.map(|applied| applied.map(|()| VendorReply::Nothing))]
        }
        [Write::Cancel(cancellation)] => {
            vec![vendor.cancel(cancellation, call).await.map(|applied| applied.map(|()| VendorReply::Nothing))]
        }
        [Write::Enrol(enrolment)] => {
            let result = vendor.enrol(&enrolment.call, call).await;
            vec![result.map(|applied| applied.map(VendorReply::Enrolled))]
        }
        [Write::Register(registration)] => {
            of_registrations(vendor.register(std::slice::from_ref(registration), call).await)
        }
        [Write::Assign(booking)] => of_bookings(vendor.assign(std::slice::from_ref(booking), call).await),
        [Write::Register(_), ..] => {
            let registration = |write: &Write| match write {
                Write::Register(registration) => Some(registration.clone()),
                _ => None,
            };
            let registrations: Vec<_> = writes.iter().filter_map(registration).collect();
            of_registrations(vendor.register(&registrations, call).await)
        }
        [Write::Assign(_), ..] => {
            let booking = |write: &Write| match write {
                Write::Assign(booking) => Some(booking.clone()),
                _ => None,
            };
            let bookings: Vec<_> = writes.iter().filter_map(booking).collect();
            of_bookings(vendor.assign(&bookings, call).await)
        }
        _ => Vec::new(),
    }
}

fn of_registrations(results: Vec<RowResult<Registered>>) -> Vec<RowResult<VendorReply>> {
    results.into_iter().map(|result| result.map(|applied| applied.map(VendorReply::Registered))).collect()
}

fn of_bookings(results: Vec<RowResult<Booked>>) -> Vec<RowResult<VendorReply>> {
    results.into_iter().map(|result| result.map(|applied| applied.map(VendorReply::Booked))).collect()
}
