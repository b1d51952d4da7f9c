//! The progress of assignments in responses.

use crate::domain::assignment::Assignment;
use crate::domain::error::Error;
use crate::domain::results::Progress;
use crate::http::app_state::AppState;

/// Returns the progress of these assignments, one each, in order.
///
/// # Errors
/// `store_unavailable`.
pub(super) async fn progress_of_all(
    app: &AppState,
    assignments: &[&Assignment],
) -> Result<Vec<Option<Progress>>, Error> {
    // Most lists of rows are of people.
    if assignments.is_empty() { Ok(Vec::new()) } else { app.gateway.progress_of(assignments).await }
}

/// Returns the progress of an assignment that is read.
///
/// # Errors
/// `store_unavailable`.
pub(super) async fn progress_of(app: &AppState, assignment: &Assignment) -> Result<Option<Progress>, Error> {
    Ok(progress_of_all(app, &[assignment]).await?.into_iter().next().flatten())
}

/// Returns the progress of an assignment that was written. If it cannot be read the response goes without: an error would
/// say that the write failed.
pub(super) async fn progress_after_write(app: &AppState, assignment: &Assignment) -> Option<Progress> {
    progress_of(app, assignment).await.unwrap_or_else(|error| {
        tracing::warn!(
            code = error.code.as_str(),
            "the progress of an assignment cannot be read; the response goes without"
        );
        None
    })
}
