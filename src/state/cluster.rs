//! What all members know of the cluster: what is wrong with members.

mod alarms;

pub use alarms::Alarms;
