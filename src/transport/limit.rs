//! Rate and concurrency.
