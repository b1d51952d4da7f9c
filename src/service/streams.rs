//! Streams of futures that must not be dropped half done.

use futures_util::stream::{Stream, StreamExt as _};

/// Drives each future of the stream to its end, whatever becomes of the others: one dropped in flight would leave an
/// intent that no task concludes. Returns the results in the stream's order, or the first error.
pub(in crate::service) async fn complete_all<T, E>(stream: impl Stream<Item = Result<T, E>>) -> Result<Vec<T>, E> {
    let mut stream = std::pin::pin!(stream);
    let mut all = Ok(Vec::new());
    while let Some(next) = stream.next().await {
        match (&mut all, next) {
            (Ok(done), Ok(one)) => done.push(one),
            (Ok(_), Err(error)) => all = Err(error),
            (Err(_), _) => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn every_future_is_completed_and_the_first_error_returned() {
        let completed = AtomicUsize::new(0);
        let run = |number: usize| {
            let completed = &completed;
            async move {
                for _ in 0..number {
                    tokio::task::yield_now().await;
                }
                completed.fetch_add(1, Ordering::Relaxed);
                if number == 2 || number == 4 { Err(number) } else { Ok(number) }
            }
        };
        assert_eq!(complete_all(stream::iter(0..9).map(run).buffered(3)).await, Err(2));
        assert_eq!(completed.load(Ordering::Relaxed), 9);
        assert_eq!(complete_all(stream::iter([0, 3, 1]).map(run).buffered(3)).await, Ok(vec![0, 3, 1]));
    }
}
