//! Empty: the crate exists for its Cargo.lock.
