//! Run two functions at the same time.

use std::panic::resume_unwind;
use std::thread::{Builder, scope};

/// Return the results of two functions. The second runs on a thread of its own, or after the first if the system allows
/// no further thread.
pub fn both<A, B: Send>(first: impl FnOnce() -> A, second: impl Fn() -> B + Sync) -> (A, B) {
    scope(|scope| match Builder::new().spawn_scoped(scope, &second) {
        Ok(thread) => (first(), thread.join().unwrap_or_else(|panic| resume_unwind(panic))),
        Err(_) => (first(), second()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::both;

    #[test]
    fn both_run_at_the_same_time() {
        let ((to_second, from_first), (to_first, from_second)) = (channel(), channel());
        let from_first = std::sync::Mutex::new(from_first);
        let second = || {
            let heard: u32 = from_first.lock().unwrap().recv().unwrap();
            to_first.send(heard + 1).unwrap();
            "second"
        };
        let first = || {
            to_second.send(1).unwrap();
            from_second.recv().unwrap()
        };
        assert_eq!(both(first, second), (2, "second"));
    }

    #[test]
    #[should_panic(expected = "in the thread")]
    fn a_panic_in_the_thread_reaches_the_caller() {
        both(|| (), || panic!("in the thread"));
    }
}
