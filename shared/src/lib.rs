//! What edge and origin must agree on, as pure functions: no I/O, clock, environment or randomness.
