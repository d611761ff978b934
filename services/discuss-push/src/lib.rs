//! Tells the members of ad-hoc discussion groups of their calls
