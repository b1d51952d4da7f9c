//! Workloads of a vendor adapter alone: encode a registration for the vendor, sign it, send it over an open connection
//! and parse the response. No router, no store.

use examgate::config::Startup;
use examgate::domain::candidate::{IfCandidateExists, Name, NewCandidate, Person};
use examgate::domain::exchange::Exchange;
use examgate::domain::ids::{CandidateId, ExchangeId};
use examgate::domain::vendor::{CallContext, CallPurpose, Priority, Registration, Vendor};

use crate::gateway::prepared;
use crate::{Failure, Times, begins, ends};

const WARM_UP: usize = 20;
const COUNTED: usize = 100;

/// A signed call to StartExam.
pub async fn call_startexam() -> Result<Times, Failure> {
    called("startexam-main").await
}

/// A call to ExamTesting, whose response takes more work to parse.
pub async fn call_examtesting() -> Result<Times, Failure> {
    called("examtesting-main").await
}

async fn called(connection: &str) -> Result<Times, Failure> {
    let folder = tempfile::tempdir()?;
    let (Startup { mut parts, .. }, process) = prepared(folder.path()).await?;
    let setup = parts.connections.remove(connection).ok_or("the connection is configured")?;
    let (vendor, environment) = (setup.connected.vendor, process.environment);
    let mut rows = Vec::new();
    for number in 0..WARM_UP + COUNTED {
        let planned = vendor.plan_registration(&CandidateId::generate(&environment), person(number), &environment);
        let planned = planned.map_err(|faults| format!("{faults:?}"))?;
        let id = ExchangeId::generate(&environment);
        let exchange = Exchange::new(id, format!("request-{number}"), None, environment.now());
        rows.push((
            planned.write,
            CallContext { purpose: CallPurpose::Initial, priority: Priority::Interactive, exchange },
        ));
    }
    let counted = rows.split_off(WARM_UP);
    for (row, call) in &rows {
        register(vendor.as_ref(), row, call).await?;
    }
    begins();
    for (row, call) in &counted {
        register(vendor.as_ref(), row, call).await?;
    }
    ends();
    Ok(COUNTED)
}

async fn register(vendor: &dyn Vendor, row: &Registration, call: &CallContext) -> Result<(), Failure> {
    for row in vendor.register(std::slice::from_ref(row), call).await {
        row.map_err(|error| error.detail.clone())?;
    }
    Ok(())
}

fn person(number: usize) -> NewCandidate {
    let name = Name { given_name: Some("Ines".to_owned()), family_name: Some("Costa".to_owned()), formatted: None };
    let person = Person {
        external_id: Some(format!("emp-{number:06}").into()),
        name,
        email: Some(format!("ines.costa.{number:06}@example.com").into()),
        ..Person::default()
    };
    NewCandidate { person, password: None, if_exists: IfCandidateExists::default() }
}
