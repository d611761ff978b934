//! Tells the members of an organisation's departments of the calls above them
