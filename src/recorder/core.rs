//! What a recorded state offers.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Instant;

/// A state that decides, without sockets, files, threads and clocks.
///
/// All that changes it is a call, and a call's outputs depend on the state, the call and the time
/// alone. What serialises of it is all that it is: one that is restored goes on as the one before.
pub trait Core: Serialize + DeserializeOwned {
    /// The core's name, in files and on the command line.
    const NAME: &'static str;

    /// What changes it.
    type Call: Serialize + DeserializeOwned;

    /// What is to be done after a call.
    type Output: Serialize;

    /// Makes one call.
    fn call(&mut self, call: Self::Call, now: Instant) -> Vec<Self::Output>;

    /// What a call says, in a few words; nothing if it says only that time has passed.
    fn describe_call(call: &Self::Call) -> Vec<String>;

    /// What an output asks for, in a few words; none if that is asked for again and again.
    fn describe_output(output: &Self::Output) -> Option<String>;
}
