//! The kinds of changes of which followers of all profiles are notified.

use super::words::words;

words! {
    /// What changed about a profile.
    pub enum ChangeKind or UnknownChangeKind {
        /// Its history has a new transition.
        Transition = "transition",
        /// Its history says that something should have happened by now and did not.
        Overdue = "overdue",
        /// A provider said where it is connected.
        Evidence = "evidence",
        /// A backend registered it, or registered something new about it.
        Registered = "registered",
        /// It was erased.
        Erased = "erased",
    }
}
