//! Tells the members of flat groups of their calls
