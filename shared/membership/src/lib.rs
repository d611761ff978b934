//! Members, the weighted ring, partitions, leases and fencing
