//! A log entry's commands: whatever decodes survives evaluation, and encodes to what it was.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pinion::state::{Batch, COMMANDS, Commands, Outcome, StateMachine, mvcc::Freed};

const HEADER_BYTES: usize = pinion::state::Builder::HEADER_BYTES;

fuzz_target!(|bytes: &[u8]| {
    entry(Bytes::copy_from_slice(bytes));
    // The same behind the head of an entry with one command: the first byte says which.
    let Some((kind, command)) = bytes.split_first() else { return };
    let kind = COMMANDS[usize::from(*kind) % COMMANDS.len()].kind.number;
    let mut one = vec![0; HEADER_BYTES];
    one[0] = 1;
    one[HEADER_BYTES - 4] = 1;
    one.extend_from_slice(&(4 + command.len() as u32).to_le_bytes());
    one.extend_from_slice(&kind.to_le_bytes());
    one.extend_from_slice(&[0, 0]);
    one.extend_from_slice(command);
    entry(one.into());
});

fn entry(bytes: Bytes) {
    let Ok(batch) = Batch::decode(bytes) else { return };
    let mut states = [StateMachine::new(), StateMachine::new()];
    for envelope in batch {
        let Ok(envelope) = envelope else { break };
        let Ok(row) = envelope.row(Commands::default()) else { break };
        let Ok(again) = (row.copy)(envelope.body.clone()) else { break };
        assert_eq!((row.copy)(again.clone().into()).as_ref(), Ok(&again));
        // Any outcome is fine; what counts is that there is one, and the same log gives the same state.
        for state in &mut states {
            envelope.clone().apply(state, &mut Outcome::default()).expect("it was decoded before");
        }
    }
    let [first, second] = &mut states;
    assert_eq!(first.revision(), second.revision());
    while first.compact_step(16, true) != Freed::All {}
}
