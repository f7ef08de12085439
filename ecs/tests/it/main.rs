//! The SDK over real HTTP against the simulator: its answers parse, bodies are kept as received, errors are sorted, and the duty of a source
//! brings a fleet into a state.

mod child;
mod memory_state;
mod over_the_wire;
