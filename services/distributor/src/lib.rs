//! Hands login records on to every push kind's owner of the user's partition
